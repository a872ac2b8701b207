//! Python's string methods that templates use and `minijinja_contrib::pycompat` lacks.

use minijinja::value::{Tuple, Value, from_args};
use minijinja::{Error, ErrorKind, State};

/// Calls `method` on `text`; what is not known here goes on to `pycompat`.
pub(super) fn call(state: &mut State, value: &Value, text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match method {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" => {
            let (before, separator, after) = match text.split_once(separator(arguments)?) {
                Some((before, after)) => (before, separator(arguments)?, after),
                None => (text, "", ""),
            };
            Ok(Value::from(Tuple::from([before, separator, after].map(Value::from))))
        }
        "rpartition" => {
            let (before, separator, after) = match text.rsplit_once(separator(arguments)?) {
                Some((before, after)) => (before, separator(arguments)?, after),
                None => ("", "", text),
            };
            Ok(Value::from(Tuple::from([before, separator, after].map(Value::from))))
        }
        "rsplit" if !arguments.is_empty() => {
            let (_, most): (Value, Option<i64>) = from_args(arguments)?;
            let separator = separator(arguments)?;
            // Python takes a negative number for "all".
            let most = most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
            let mut parts: Vec<Value> = text.rsplitn(most, separator).map(Value::from).collect();
            parts.reverse();
            Ok(Value::from(parts))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments),
    }
}

/// The first argument, which Python wants to be a text that is not empty.
fn separator(arguments: &[Value]) -> Result<&str, Error> {
    let separator = arguments.first().and_then(Value::as_str).filter(|separator| !separator.is_empty());
    separator.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "a separator must be a text that is not empty"))
}
