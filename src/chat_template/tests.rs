use super::*;

fn render(source: &str) -> Result<String> {
    ChatTemplate::new(source, Some("<s>"), Some("</s>"))?.render(&[Message::new("user", "Hi")], true)
}

#[test]
fn chat_ml_is_rendered() {
    let source = "{% for message in messages %}\n{{- '<|im_start|>' + message['role'] + '\\n' + message.content + '<|im_end|>' + '\\n' -}}\n{% endfor %}\n{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    assert_eq!(render(source).unwrap(), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn endless_templates_end() {
    for source in [
        "{% for a in range(10000) %}{% for b in range(10000) %}{% for c in range(10000) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}",
    ] {
        assert!(matches!(render(source), Err(Error::Template(_))), "{source}");
    }
}

#[test]
fn raised_messages_are_passed_on() {
    let error = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
    assert_eq!(error.to_string(), "chat template: roles must alternate");
}
