use super::*;
use proptest::prelude::*;

fn render(source: &str) -> Result<String> {
    ChatTemplate::new(source, Some("<s>"), Some("</s>"))?.render(&[Message::new("user", "Hi")], true)
}

/// That `source` writes `expected`.
fn check(source: &str, expected: &str) {
    assert_eq!(render(source).map_err(|error| error.to_string()).as_deref(), Ok(expected), "{source}");
}

/// That `source` is refused with an error that contains `part`.
fn check_refused(source: &str, part: &str) {
    match render(source) {
        Ok(text) => panic!("{source:?} writes {} bytes", text.len()),
        Err(error) => assert!(error.to_string().contains(part), "{source:?}: {error}"),
    }
}

#[test]
fn endless_templates_end() {
    check_refused(
        "{% for a in range(10000) %}{% for b in range(10000) %}{% for c in range(10000) %}{% endfor %}{% endfor %}{% endfor %}",
        "steps",
    );
    check_refused("{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}", "recursion");
    check_refused("{% macro again() %}{{ again() }}{{ again() }}{% endmacro %}{{ again() }}", "recursion");
}

#[test]
fn what_would_exhaust_the_stack_is_refused() {
    const BLOCKS: &str = "nests its blocks";
    const LONG: &str = "too long";
    check_refused(&"{% if a %}".repeat(5000), BLOCKS);
    check_refused(&"{% for a in [] %}".repeat(5000), BLOCKS);
    check_refused(&format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(5000)), BLOCKS);
    check_refused(&format!("{{% set a %}}{}", "{% set a %}".repeat(5000)), "");
    check_refused(&"{% macro a() %}".repeat(5000), BLOCKS);
    check_refused(&format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)), LONG);
    check_refused(&format!("{{{{ {}1{} }}}}", "[".repeat(5000), "]".repeat(5000)), LONG);
    for link in ["-", "not ", "1 + ", "1 and ", "1 == ", "1 ** ", "1 if ", "1 if 1 else ", "{'a': ", "f("] {
        check_refused(&format!("{{{{ {}1 }}}}", link.repeat(20000)), LONG);
    }
    for link in [".a", "|trim", "[0]", "()", "[1:]", " is defined", " is not none", " is eq 1"] {
        check_refused(&format!("{{{{ messages{} }}}}", link.repeat(20000)), LONG);
    }
    check_refused(&format!("{{% set a{} = 1 %}}", ".a".repeat(20000)), LONG);
    // What is just allowed here fits the two megabytes of a test's stack; the engine's parser has its own limit below.
    for (link, close) in [("-", ""), ("not ", ""), ("(", ")"), ("[", "]"), ("1 + ", ""), ("1 if 1 else ", ""), ("1 ** ", "")] {
        let _ = render(&format!("{{{{ {}1{} }}}}", link.repeat(190 / link.split(' ').count().max(1)), close.repeat(190)));
    }
    check(&format!("{}x{}", "{% if true %}".repeat(99), "{% endif %}".repeat(99)), "x");
    check(&format!("{{{{ 'x'{} }}}}", "|trim".repeat(190)), "x");
    let link = "messages[0].content ~ '|' ~ ";
    check(&format!("{{{{ {}1 }}}}", link.repeat(20)), &format!("{}1", "Hi|".repeat(20)));
    check(&format!("{{{{ [{}]|length }}}}", "1 + 1, ".repeat(5000)), "5000");
    check_refused("{% include 'chat template' %}", "");
}

#[test]
fn growing_values_are_refused() {
    const TEXT: &str = "more text than";
    const VALUE: &str = "too large";
    let doubling =
        |body: &str| format!("{{% set ns = namespace(s='xxxxxxxx') %}}{{% for i in range(100) %}}{body}{{% endfor %}}");
    for body in [
        "{% set ns.s = ns.s ~ ns.s %}",
        "{% set ns.s = ns.s + ns.s %}",
        "{%- set ns.s= ns['s']|trim ~(ns.s) -%}",
        "{% set ns.s = [ns.s, ns.s] %}",
        "{% set ns.s = {'a': ns.s, 'b': ns.s} %}",
        "{% set ns.s = ns.s.replace('x', 'xx') %}",
        "{% set ns.s = ns.s|replace('x', 'xx') %}",
        "{% set ns.s = ns.s.join([ns.s, ns.s]) %}",
        "{% set ns.s = [ns.s, ns.s]|join %}",
        "{% set ns.s = '%s%s'|format(ns.s, ns.s) %}",
        "{% set ns.s = '{0}{0}'.format(ns.s) %}",
        "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}",
        "{% set ns.s = ns.s|tojson|tojson %}",
        "{% set ns.s = (ns.s ~ '\\n' ~ ns.s)|indent(100) %}",
    ] {
        let source = doubling(body);
        let error = render(&source).map(|text| text.len()).expect_err(&source).to_string();
        assert!(error.contains(TEXT) || error.contains(VALUE) || error.contains("too deeply"), "{source}: {error}");
    }
    check_refused(&"{% set s = (s or 'xxxxxxxx') ~ (s or 'xxxxxxxx') %}".repeat(100), VALUE);
    check_refused("{% macro m(s, n) %}{% if n %}{{ m(s ~ s, n - 1) }}{% endif %}{% endmacro %}{{ m('xxxxxxxx', 40) }}", "");
    check_refused("{% macro m(s, n) %}{{ m([s, s], n - 1) if n else s }}{% endmacro %}{{ m('xxxxxxxx', 40) }}", "");
    check_refused("{{ 'x' * 1000000000 }}", VALUE);
    check_refused("{{ [1] * 1000000000 }}", VALUE);
    check_refused("{{ 1000000000 * 'x' }}", VALUE);
    check_refused("{% set n = 1000000000 %}{{ 'x' * n }}", VALUE);
    check_refused("{{ ('%999999999d')|format(1) }}", "width");
    check_refused("{{ '{:>999999999}'.format(1) }}", "width");
    check_refused("{{ '{:>{}}'.format(1, 999999999) }}", "");
    check_refused("{{ 'a'|indent(999999999, true) }}", "indent");
    check_refused("{{ [1]|tojson(indent=999999999) }}", "indent");
    check_refused("{{ range(1000000000)|list }}", "");
    check_refused("{{ [1]|batch(1000000000, 'x') }}", "batch");
    let long = "a plain text of more than a few bytes, ".repeat(100);
    check_refused(&format!("{{% for i in range(30000) %}}{long}{{% endfor %}}"), TEXT);
    check_refused(&format!("{{% for i in range(30000) %}}{}{{% endfor %}}", " ".repeat(5000)), "white space");
    check_refused("{% for a in range(100000) %}{{ messages[0].content ~ ('x' * 10000) }}{% endfor %}", "");
}

#[test]
fn namespaces_cannot_hold_themselves() {
    check("{% set a = namespace(x=1) %}{% set a.b = a %}{{ a.b.x }}{{ a == a }}", "1True");
    check_refused("{% set a = namespace() %}{% for i in range(100) %}{% set a.b = a %}{% endfor %}{{ a }}", "too deeply");
}

#[test]
fn slices_are_pythons() {
    for (slice, expected) in [
        ("[::-1]", "54321"),
        ("[1:]", "2345"),
        ("[:-1]", "1234"),
        ("[-2:]", "45"),
        ("[1:4:2]", "24"),
        ("[::2]", "135"),
        ("[3:0:-1]", "432"),
        ("[9:]", ""),
        ("[-9:2]", "12"),
        ("[:-9:-2]", "531"),
        ("[2:2]", ""),
        ("[9223372036854775807:-9223372036854775807:-9223372036854775807]", "5"),
        ("[1:][1:]", "345"),
        ("[ 1 : [2, 3][1] ]", "23"),
    ] {
        check(&format!("{{{{ '12345'{slice} }}}}"), expected);
        check(&format!("{{{{ [1, 2, 3, 4, 5]{slice}|join }}}}"), expected);
    }
    check("{{ ''[::-1] }}{{ [][::-1]|length }}{{ [][1:]|length }}{{ ''[:1] }}", "00");
    check_refused("{{ [1][::0] }}", "step");
    check_refused("{{ 5[1:] }}", "sliced");
}

#[test]
fn guards_change_nothing_else() {
    check("{{ 1 + 2 * 3 - -4 }} {{ 2 * (1 + -1) }} {{ -1 + 2 }}", "11 0 1");
    check("{{ 'a' if false else -1 }} {{ not 1 + 1 }} {{ 1 in [1] + [2] }}", "-1 False True");
    check("{{ {'a': 1 + 1, 'b': {'c': 'x' ~ 1}}['b']['c'] }}", "x1");
    check("{{ 'a}}b' ~ \"%}\" ~ '\\'~' }}{# ~ {{ #}{% raw %}{{ a ~ b }}{% endraw %}", "a}}b%}'~{{ a ~ b }}");
    check("{% set a, b = 1 + 1, 'x' ~ 2 %}{{ a }}{{ b }}", "2x2");
    check("{% set a = 1 if false %}[{{ a }}]{{ a is defined }}", "[]False");
    check("{% set a =messages[0].content+'!'-%} {{ a }}", "Hi!");
    check("{{ '-' * 5 }}{{ 2 ** 3 }}{{ 7 // 2 }}{{ messages|length * 2 }}", "-----832");
    check("{% macro f(a, b=1 + 1) %}{{ a ~ b }}{% endmacro %}{{ f(1) }}{{ f(1, b='x' ~ 'y') }}", "121xy");
    let text = "Plain text, longer than what goes uncounted, with its spaces   ".repeat(3);
    check(&format!("{{% if true %}}\n  {text}\n  {{% endif %}}\nend"), &format!("  {text}\nend"));
    check(&format!("  {{%- if true -%}}  {text}  {{%- endif -%}}  end"), &format!("{}end", text.trim()));
    check(&format!("{text}{{{{ 1 }}}}"), &format!("{text}1"));
    check("{%- generation -%} a {% endgeneration +%}\n b", "a \n b");
}

#[test]
fn raised_messages_are_passed_on() {
    let error = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
    assert_eq!(error.to_string(), "chat template: roles must alternate");
}

#[test]
fn what_is_no_template_is_an_error_with_its_line() {
    for source in
        ["{{", "{% if", "\n{{ 'a }}", "{% unknown %}", "{{ a.b.c }}", "{{ nothing() }}", "{{ 1|nothing }}", "{% endfor %}"]
    {
        check_refused(source, "line ");
    }
    check_refused(&" ".repeat(300 << 10), "too long");
}

#[test]
fn dates_are_written_only_when_given() {
    let source = "{{ strftime_now('%d %b %Y') if strftime_now is defined else 'no date' }}";
    check(source, "no date");
    let template = ChatTemplate::new(source, None, None).unwrap();
    assert_eq!(template.with_now(951_782_400).render(&[], false).unwrap(), "29 Feb 2000");
    let template = ChatTemplate::new("{{ strftime_now('%Q') }}", None, None).unwrap().with_now(-1);
    assert!(template.render(&[], false).unwrap_err().to_string().contains("%Q"));
}

#[test]
fn a_long_conversation_fits() {
    let messages: Vec<Message> =
        (0..300).map(|turn| Message::new(["user", "assistant"][turn % 2], "word ".repeat(500))).collect();
    let source = "{% set ns = namespace(all='') %}{% for m in messages[::-1] %}{% set ns.all = m.role ~ m.content ~ ns.all %}{% endfor %}{{ ns.all }}";
    let prompt = ChatTemplate::new(source, None, None).unwrap().render(&messages, true).unwrap();
    assert_eq!(prompt.len(), 300 * 2500 + 150 * (4 + 9));
}

#[test]
fn huggingface_files_are_understood() {
    let config = serde_json::json!({
        "bos_token": {"content": "<b>"},
        "eos_token": null,
        "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ bos_token }}{{ eos_token }}."}],
    });
    let template = ChatTemplate::from_huggingface(None, Some(&config)).unwrap().unwrap();
    assert_eq!(template.render(&[], false).unwrap(), "<b>.");
    let template = ChatTemplate::from_huggingface(Some("file"), Some(&config)).unwrap().unwrap();
    assert_eq!(template.render(&[], false).unwrap(), "file");
    assert!(ChatTemplate::from_huggingface(None, None).unwrap().is_none());
    let wrong = serde_json::json!({"chat_template": 5});
    assert!(ChatTemplate::from_huggingface(None, Some(&wrong)).unwrap_err().to_string().contains("tokenizer_config.json"));
}

/// Expressions of every kind, mostly ones that make no sense.
fn expression() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(vec![
        "''",
        "'ab'",
        "[]",
        "[1, 'a']",
        "{}",
        "{'a': 1}",
        "0",
        "-1",
        "3",
        "2.5",
        "9223372036854775807",
        "1e308",
        "none",
        "true",
        "messages",
        "messages[0]",
        "m.content",
        "x",
        "ns",
        "ns.a",
        "loop",
        "loop.index",
        "f",
        "f(1)",
        "range(9)",
        "undefined_name",
        "namespace(a=1)",
        "dict(a=1)",
        "cycler",
        "'\u{e9}\u{1f600}'",
        "170141183460469231731687303715884105727",
    ]);
    atom.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        let operators = vec!["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "not in", "and", "or"];
        let filters = vec![
            "trim",
            "length",
            "list",
            "first",
            "last",
            "reverse",
            "sort",
            "unique",
            "join",
            "join('-')",
            "upper",
            "title",
            "tojson",
            "tojson(indent=2)",
            "int",
            "float",
            "abs",
            "round(2)",
            "string",
            "items",
            "dictsort",
            "default('d')",
            "replace('a', 'b')",
            "map('upper')",
            "map(attribute='role')",
            "select",
            "selectattr('role')",
            "groupby('role')",
            "indent(2)",
            "min",
            "sum",
            "format(1)",
            "split('a')",
            "lines",
            "zip([1])",
            "chain([1])",
            "attr('a')",
            "bool",
            "safe",
            "escape",
            "capitalize",
        ];
        let methods = vec![
            "strip()",
            "rsplit('a', 1)",
            "partition('b')",
            "split()",
            "split('a', 1)",
            "splitlines(true)",
            "items()",
            "keys()",
            "get('a')",
            "join([1])",
            "format(1, 2)",
            "replace('', 'b')",
            "replace('a', 'b', -1)",
            "startswith('a')",
            "find('b')",
            "count('a')",
            "title()",
            "rstrip('b')",
        ];
        prop_oneof![
            (inner.clone(), prop::sample::select(operators), inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (inner.clone(), prop::sample::select(filters)).prop_map(|(a, filter)| format!("{a}|{filter}")),
            (inner.clone(), prop::sample::select(methods)).prop_map(|(a, method)| format!("({a}).{method}")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} if {b} else {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a})[{b}:{c}]")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a})[{b}::{c}]")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("[{a}, {b}]")),
        ]
    })
}

proptest! {
    #[test]
    fn odd_templates_never_panic(a in expression(), b in expression(), c in expression()) {
        let source = format!(
            "{{% set ns = namespace(a={a}) %}}{{% macro f(y) %}}{{{{ y ~ {b} }}}}{{% endmacro %}}{{% for x in {b} %}}{{% set ns.a = {c} %}}\
             {{{{ {a} }}}}{{% set x = {c} + {a} %}}{{% else %}}{{% set m = {a} %}}{{{{ {b} }}}}{{% endfor %}}{{{{ {c} }}}}"
        );
        let _ = render(&source);
        let _ = render(&format!("{{{{ {a} }}}}"));
    }

    #[test]
    fn cut_templates_never_panic(at in 0..4000_usize, length in 0..40_usize) {
        let source = include_str!("../../tests/golden/text/templates/constructs.jinja");
        let cut: String = source.chars().take(at).chain(source.chars().skip(at + length)).collect();
        let _ = render(&cut);
    }
}
