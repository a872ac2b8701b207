//! What keeps a template from filling the memory: a budget of bytes per rendering, and the filters and methods that
//! [`rewrite`](super::rewrite) sends growing values through.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Rest, StringInput, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use super::methods;

/// Deeper values are refused: dropping or printing them recurses.
const MAX_DEPTH: usize = 32;
/// The widest indentation and the most digits of a width in a format.
const MAX_WIDTH: usize = 256;

/// What a product may repeat a text by, and the longest text it may repeat, in characters.
const MAX_REPEATS: u64 = 10_000;
const MAX_REPEATED: usize = 64;

/// How large one value may be, and how much may be made and written in all.
pub(super) struct Budget {
    value: usize,
    left: AtomicUsize,
}

impl Budget {
    /// For a conversation of so many messages that has, with the template, so many bytes.
    pub(super) fn new(bytes: usize, messages: usize) -> Self {
        let value = (256 << 10) + bytes.saturating_mul(4);
        // Templates that collect the prompt in a variable copy it once per message.
        let total = bytes.saturating_mul(messages.saturating_add(16)).saturating_mul(4);
        Self { value, left: AtomicUsize::new((64 << 20) + total) }
    }

    fn spend(&self, bytes: usize) -> Result<(), Error> {
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        spent.map(drop).map_err(|_| refused("it makes more text than a prompt can need"))
    }

    /// Spends what `value` takes; an error if it is too large by itself.
    fn spend_value(&self, value: &Value) -> Result<(), Error> {
        let mut left = self.value;
        weigh(value, 0, &mut left)?;
        self.spend(self.value - left)
    }
}

/// Takes the bytes that `value` takes when printed, roughly, from `left`.
fn weigh(value: &Value, depth: usize, left: &mut usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(refused("it nests values too deeply"));
    }
    let mut take = |bytes: usize| {
        *left = left.checked_sub(bytes).ok_or_else(|| refused("it makes a value that is too large"))?;
        Ok::<(), Error>(())
    };
    match value.kind() {
        ValueKind::String | ValueKind::Bytes => take(16 + value.as_str().map_or(0, str::len)),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            take(32)?;
            for item in value.try_iter()? {
                weigh(&item, depth + 1, left)?;
                if value.kind() == ValueKind::Map {
                    weigh(&value.get_item(&item)?, depth + 1, left)?;
                }
            }
            Ok(())
        }
        _ => take(16),
    }
}

/// Lets everything that can grow in `environment` spend from `budget`.
pub(super) fn install(environment: &mut Environment<'static>, budget: Budget) {
    let budget = Arc::new(budget);
    // None of these is in transformers' environment or in any chat template, and each can make much from little.
    for filter in ["batch", "slice", "pprint"] {
        environment.remove_filter(filter);
    }
    environment.remove_global("debug");

    let shared = Arc::clone(&budget);
    environment.set_formatter(move |out, state, value| {
        shared.spend_value(value)?;
        minijinja::escape_formatter(out, state, value)
    });
    let shared = Arc::clone(&budget);
    environment.add_filter("__written", move |bytes: usize| shared.spend(bytes).map(|()| ""));
    environment.add_filter("__factor", |value: Value| {
        let small = match value.kind() {
            ValueKind::Number => i64::try_from(value.clone()).map_or(true, |number| number.unsigned_abs() <= MAX_REPEATS),
            ValueKind::String => value.len().is_some_and(|length| length <= MAX_REPEATED),
            kind => kind == ValueKind::Bool,
        };
        if small { Ok(value) } else { Err(refused("it multiplies a value that is too large")) }
    });
    let shared = Arc::clone(&budget);
    environment.add_filter("__bounded", move |value: Value| {
        shared.spend_value(&value)?;
        // What is lazy would be computed again and again, and nests without limit.
        if value.kind() == ValueKind::Iterable { value.try_iter().map(Iterator::collect) } else { Ok(value) }
    });
    let shared = Arc::clone(&budget);
    environment.add_filter("__kept", move |value: &Value| {
        shared.spend_value(value)?;
        copied(value)
    });
    let shared = Arc::clone(&budget);
    environment.add_filter("tojson", move |value: &Value, options: Kwargs| {
        shared.spend_value(value)?;
        let text = super::json::tojson(value, options)?;
        shared.spend(text.len()).map(|()| text)
    });
    let shared = Arc::clone(&budget);
    environment.add_filter("replace", move |value: &Value, old: &Value, new: &Value| {
        shared.spend_value(value)?;
        replace(&shared, &value.to_string(), &old.to_string(), &new.to_string(), None)
    });
    let shared = Arc::clone(&budget);
    environment.add_filter("join", move |value: &Value, joiner: Option<&Value>, attribute: Option<String>, options: Kwargs| {
        let attribute = match attribute {
            Some(attribute) => Some(attribute),
            None => options.get("attribute")?,
        };
        options.assert_all_used()?;
        let joiner = joiner.map(Value::to_string).unwrap_or_default();
        join(&shared, &joiner, value, attribute.as_deref())
    });
    let shared = Arc::clone(&budget);
    environment.add_filter(
        "indent",
        move |state: &mut State, value: &Value, width: Option<usize>, first: Option<bool>, options: Kwargs| {
            shared.spend_value(value)?;
            let wide = width.or(options.get("width")?).unwrap_or(4);
            if wide > MAX_WIDTH {
                return Err(refused(&format!("it indents by more than {MAX_WIDTH}")));
            }
            shared.spend(value.as_str().unwrap_or_default().lines().count().saturating_mul(wide))?;
            minijinja::filters::indent(StringInput::new(state, value)?, width, first, None, options)
        },
    );
    let shared = Arc::clone(&budget);
    environment.add_filter("format", move |value: &Value, arguments: Rest<Value>| {
        formatted(&shared, FormatStyle::Printf, value, &arguments)
    });
    environment.set_unknown_method_callback(move |state, value, method, arguments| {
        match (method, value.as_str(), arguments) {
            ("__slice", _, arguments) => slice(value, arguments),
            ("replace", Some(text), [old, new, count @ ..]) if count.len() < 2 => {
                let (Some(old), Some(new)) = (old.as_str(), new.as_str()) else {
                    return Err(refused("replace() takes two texts"));
                };
                // Python takes a negative count for "all".
                let count = count.first().cloned().map(i64::try_from).transpose()?;
                replace(&budget, text, old, new, count.and_then(|count| usize::try_from(count).ok()))
            }
            ("join", Some(text), [values]) => join(&budget, text, values, None),
            ("format", Some(_), arguments) => formatted(&budget, FormatStyle::StrFormat, value, arguments),
            (_, Some(text), _) => methods::call(state, value, text, method, arguments),
            _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments),
        }
    });
}

/// A copy of lists and dictionaries down to what cannot change: a namespace that held itself could be neither printed
/// nor compared.
fn copied(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.map(|item| copied(&item)).collect::<Result<Vec<Value>, Error>>().map(Value::from)
        }
        ValueKind::Map => {
            let pairs = value.try_iter()?.map(|key| Ok((key.clone(), copied(&value.get_item(&key)?)?)));
            pairs.collect::<Result<Vec<(Value, Value)>, Error>>().map(Value::from_pairs)
        }
        _ => Ok(value.clone()),
    }
}

fn replace(budget: &Budget, text: &str, old: &str, new: &str, count: Option<usize>) -> Result<Value, Error> {
    let count = count.unwrap_or(usize::MAX);
    let occurrences = text.matches(old).take(count).count();
    budget.spend(text.len().saturating_add(occurrences.saturating_mul(new.len())))?;
    Ok(Value::from(text.replacen(old, new, count)))
}

fn join(budget: &Budget, joiner: &str, values: &Value, attribute: Option<&str>) -> Result<Value, Error> {
    let mut text = String::new();
    for (index, value) in values.try_iter()?.enumerate() {
        let value = match attribute {
            Some(attribute) => value.get_attr(attribute)?,
            None => value,
        };
        budget.spend_value(&value)?;
        if index > 0 {
            budget.spend(joiner.len())?;
            text.push_str(joiner);
        }
        text.push_str(&value.to_string());
    }
    Ok(Value::from(text))
}

/// Formats, with widths of at most three digits that stand in the format itself.
fn formatted(budget: &Budget, style: FormatStyle, value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let text = value.as_str().ok_or_else(|| refused("format takes a text"))?;
    let wide = text.as_bytes().windows(4).any(|four| four.iter().all(u8::is_ascii_digit));
    if wide || text.contains('*') {
        return Err(refused("it formats with too large or computed widths"));
    }
    // Every place in the format may print every argument, and up to 999 characters beside it.
    budget.spend_value(value)?;
    let places = text.matches(['%', '{']).count();
    for argument in arguments {
        let mut left = budget.value;
        weigh(argument, 0, &mut left)?;
        budget.spend((budget.value - left).saturating_mul(places.max(1)))?;
    }
    budget.spend(places.saturating_mul(1_000))?;
    format(style, text, arguments).map(Value::from)
}

/// Python's `value[start:stop:step]` (the language reference, "Slicings": `slice.indices`).
fn slice(value: &Value, bounds: &[Value]) -> Result<Value, Error> {
    let bound = |index: usize| match bounds.get(index) {
        Some(bound) if !bound.is_none() => i64::try_from(bound.clone()).map(Some),
        _ => Ok(None),
    };
    let (start, stop, step) = (bound(0)?, bound(1)?, bound(2)?.unwrap_or(1));
    match value.as_str() {
        Some(text) => {
            let characters: Vec<char> = text.chars().collect();
            indices(start, stop, step, characters.len())?
                .map(|index| characters.get(index))
                .collect::<Option<String>>()
                .map(Value::from)
        }
        None if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) => {
            let items: Vec<Value> = value.try_iter()?.collect();
            indices(start, stop, step, items.len())?
                .map(|index| items.get(index).cloned())
                .collect::<Option<Vec<Value>>>()
                .map(Value::from)
        }
        None => return Err(refused(&format!("a value that is {} cannot be sliced", value.kind()))),
    }
    .ok_or_else(|| refused("a slice outside its value"))
}

fn indices(start: Option<i64>, stop: Option<i64>, step: i64, length: usize) -> Result<Box<dyn Iterator<Item = usize>>, Error> {
    let length = length as i64;
    let stride = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    // Negative bounds count from the end; then everything is drawn into the value.
    let place = |bound: i64, low: i64, high: i64| (if bound < 0 { bound.saturating_add(length) } else { bound }).clamp(low, high);
    match step {
        0 => Err(refused("a slice needs a step other than 0")),
        1.. => {
            let start = start.map_or(0, |start| place(start, 0, length));
            let stop = stop.map_or(length, |stop| place(stop, 0, length));
            Ok(Box::new((start..stop).step_by(stride).map(|index| index as usize)))
        }
        _ => {
            let start = start.map_or(length - 1, |start| place(start, -1, length - 1));
            let stop = stop.map_or(-1, |stop| place(stop, -1, length - 1));
            Ok(Box::new((stop + 1..start + 1).rev().step_by(stride).map(|index| index as usize)))
        }
    }
}

fn refused(problem: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.to_owned())
}
