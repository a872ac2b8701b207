//! A typed view of a model's configuration that notices what nobody asked for.
//!
//! A configuration key that changes the mathematics and is not handled must be an error, never
//! ignored. So every key that a model reads is remembered, and [`ConfigReader::finish`] refuses
//! whatever is left over.

use crate::{Error, Result, weights::shown};
use serde_json::{Map, Value};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// No dimension, count or id of a model comes near; larger values would overflow kernels' integers.
const MAX_INTEGER: u64 = i32::MAX as u64;

/// Lists in a configuration have an entry per layer or per token id.
const MAX_LIST: usize = 65_536;

/// Reads the keys of one JSON object: `config.json`, an object inside it, or GGUF metadata.
///
/// A key whose value is `null` counts as absent. Every method that finds a value of the wrong type
/// or outside its bounds returns an [`Error::Config`] that names the key.
#[derive(Clone, Debug)]
pub struct ConfigReader<'a> {
    file: &'a str,
    map: &'a Map<String, Value>,
    /// Where this object lies in the file, for messages: empty or `text_config.`.
    path: String,
    /// What stands before each key that is read: empty or `llama4.`.
    prefix: String,
    /// The keys of `map` that were asked for; shared by all views of this object.
    read: Arc<Mutex<BTreeSet<String>>>,
}

impl<'a> ConfigReader<'a> {
    /// A view of `map`, which `file` holds.
    pub fn new(file: &'a str, map: &'a Map<String, Value>) -> Self {
        Self { file, map, path: String::new(), prefix: String::new(), read: Arc::default() }
    }

    /// A view of the same object that puts `prefix` before every key it reads: with `llama4.` the
    /// key `block_count` is `llama4.block_count`, as GGUF spells it. Keys read through it count as
    /// read in this reader too.
    pub fn with_prefix(&self, prefix: &str) -> Self {
        Self { prefix: format!("{}{prefix}", self.prefix), ..self.clone() }
    }

    /// The object under `key`, or `None` if it is absent. It keeps its own account of what was
    /// read and needs its own [`finish`](Self::finish).
    pub fn object(&self, key: &str) -> Result<Option<ConfigReader<'a>>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(ConfigReader {
                file: self.file,
                map,
                path: format!("{}{}{key}.", self.path, self.prefix),
                prefix: String::new(),
                read: Arc::default(),
            })),
            Some(_) => Err(self.error(key, "must be an object")),
        }
    }

    /// Whether `key` is there with a value other than `null`; counts as reading it.
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// A positive integer that must be there.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.required(key, self.opt_usize(key)?)
    }

    /// A positive integer, or `default` if it is absent.
    pub fn usize_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.opt_usize(key)?.unwrap_or(default))
    }

    /// A positive integer, or `None` if it is absent.
    pub fn opt_usize(&self, key: &str) -> Result<Option<usize>> {
        match self.opt_count(key)? {
            Some(0) => Err(self.error(key, "must not be 0")),
            other => Ok(other),
        }
    }

    /// An integer that may be 0 (a number of things of which there may be none, a token id), or
    /// `None` if it is absent.
    pub fn opt_count(&self, key: &str) -> Result<Option<usize>> {
        self.value(key).map(|value| self.integer(key, value)).transpose()
    }

    /// A positive, finite number that must be there.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.required(key, self.opt_f32(key)?)
    }

    /// A positive, finite number, or `default` if it is absent.
    pub fn f32_or(&self, key: &str, default: f32) -> Result<f32> {
        Ok(self.opt_f32(key)?.unwrap_or(default))
    }

    /// A positive, finite number, or `None` if it is absent.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let number = value.as_f64().ok_or_else(|| self.error(key, "must be a number"))? as f32;
        if !number.is_finite() || number <= 0.0 {
            let problem = format!("must be a positive number that fits into 32 bits, not {value}");
            return Err(self.error(key, &problem));
        }
        Ok(Some(number))
    }

    /// A boolean, or `default` if it is absent.
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(self.error(key, "must be true or false")),
        }
    }

    /// A string that must be there.
    pub fn str(&self, key: &str) -> Result<&'a str> {
        self.required(key, self.opt_str(key)?)
    }

    /// A string, or `None` if it is absent.
    pub fn opt_str(&self, key: &str) -> Result<Option<&'a str>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(_) => Err(self.error(key, "must be a string")),
        }
    }

    /// A list of integers that may be 0, or `None` if it is absent.
    pub fn opt_counts(&self, key: &str) -> Result<Option<Vec<usize>>> {
        let Some(list) = self.list(key)? else {
            return Ok(None);
        };
        list.iter().map(|value| self.integer(key, value)).collect::<Result<_>>().map(Some)
    }

    /// A list of strings, or `None` if it is absent.
    pub fn opt_strs(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(list) = self.list(key)? else {
            return Ok(None);
        };
        let text = |value: &'a Value| value.as_str().ok_or_else(|| self.error(key, "must be a list of strings"));
        list.iter().map(text).collect::<Result<_>>().map(Some)
    }

    /// Refuses the first key that was neither read nor is `harmless`.
    ///
    /// An entry of `harmless` that ends in `.` stands for all keys that begin with it, as in
    /// `tokenizer.`. Left-over keys whose value is `null`, `false` or empty are a feature switched
    /// off and pass. This looks at the whole object, whatever prefix the reader has.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key.
    pub fn finish(&self, harmless: &[&str]) -> Result<()> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |key: &str| {
            read.contains(key) || harmless.iter().any(|&entry| entry == key || (entry.ends_with('.') && key.starts_with(entry)))
        };
        match self.map.iter().find(|(key, value)| !known(key) && !switched_off(value)) {
            None => Ok(()),
            Some((key, value)) => Err(Error::Config {
                file: self.file.to_owned(),
                key: format!("{}{}", self.path, shown(key)),
                problem: format!("not supported by this architecture (its value is {})", shown(&value.to_string())),
            }),
        }
    }

    /// An [`Error::Config`] about `key`, for checks that only the model can make.
    pub fn error(&self, key: &str, problem: &str) -> Error {
        Error::Config {
            file: self.file.to_owned(),
            key: format!("{}{}{key}", self.path, self.prefix),
            problem: problem.to_owned(),
        }
    }

    fn value(&self, key: &str) -> Option<&'a Value> {
        let key = format!("{}{key}", self.prefix);
        let value = self.map.get(&key);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        value.filter(|value| !value.is_null())
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(key, "is missing"))
    }

    fn integer(&self, key: &str, value: &Value) -> Result<usize> {
        value.as_u64().filter(|&number| number <= MAX_INTEGER).map(|number| number as usize).ok_or_else(|| {
            let problem = format!("must be an integer from 0 to {MAX_INTEGER}, not {}", shown(&value.to_string()));
            self.error(key, &problem)
        })
    }

    fn list(&self, key: &str) -> Result<Option<&'a [Value]>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(list)) if list.len() <= MAX_LIST => Ok(Some(list)),
            Some(Value::Array(list)) => {
                let problem = format!("has {} entries, more than {MAX_LIST}", list.len());
                Err(self.error(key, &problem))
            }
            Some(_) => Err(self.error(key, "must be a list")),
        }
    }
}

fn switched_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is no object"),
        }
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T>, words: &[&str]) {
        let message = result.unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} does not say {word:?}");
        }
    }

    #[test]
    fn values_are_typed_and_bounded() {
        let map = map(json!({
            "n": 7, "zero": 0, "minus": -1, "half": 0.5, "huge": 1u64 << 40, "whole": 7.0,
            "text": "abc", "yes": true, "nothing": null, "list": [1, 0, 3], "words": ["a", "b"],
            "tiny": 1e-60, "long": vec![0; MAX_LIST + 1], "mixed": [1, "a"],
        }));
        let config = ConfigReader::new("config.json", &map);
        assert_eq!(config.usize("n").unwrap(), 7);
        assert_eq!(config.usize_or("absent", 3).unwrap(), 3);
        assert_eq!(config.usize_or("nothing", 3).unwrap(), 3);
        assert_eq!(config.opt_count("zero").unwrap(), Some(0));
        assert_eq!(config.f32("half").unwrap(), 0.5);
        assert_eq!(config.f32("n").unwrap(), 7.0);
        assert_eq!(config.f32_or("absent", 0.25).unwrap(), 0.25);
        assert!(config.bool_or("yes", false).unwrap() && config.bool_or("absent", true).unwrap());
        assert_eq!(config.str("text").unwrap(), "abc");
        assert_eq!(config.opt_counts("list").unwrap().unwrap(), [1, 0, 3]);
        assert_eq!(config.opt_strs("words").unwrap().unwrap(), ["a", "b"]);
        assert!(config.has("n") && !config.has("nothing"));

        refused(config.usize("absent"), &["config.json: absent", "missing"]);
        refused(config.usize("nothing"), &["nothing", "missing"]);
        refused(config.usize("zero"), &["zero", "must not be 0"]);
        for key in ["minus", "half", "huge", "whole", "text", "yes", "list"] {
            refused(config.usize(key), &[key, "integer"]);
        }
        for key in ["zero", "minus", "tiny"] {
            refused(config.f32(key), &[key, "positive"]);
        }
        refused(config.f32("text"), &["text", "number"]);
        refused(config.bool_or("n", true), &["config.json: n", "true or false"]);
        refused(config.str("n"), &["config.json: n", "string"]);
        refused(config.opt_counts("long"), &["long", "65537 entries"]);
        refused(config.opt_counts("mixed"), &["mixed", "integer"]);
        refused(config.opt_strs("mixed"), &["mixed", "strings"]);
        refused(config.opt_counts("n"), &["config.json: n", "list"]);
        refused(config.object("n"), &["config.json: n", "object"]);
    }

    #[test]
    fn a_number_beyond_32_bits_is_refused() {
        let map = map(json!({ "a": 1e60, "b": 1e39 }));
        let config = ConfigReader::new("config.json", &map);
        refused(config.f32("a"), &["config.json: a"]);
        refused(config.f32("b"), &["config.json: b"]);
    }

    #[test]
    fn keys_left_over_are_refused() {
        let map = map(json!({
            "a": 1, "off": false, "empty": [], "none": null, "blank": "", "harmless": 3,
            "nested": { "b": 2, "c": 3 }, "on": true,
        }));
        let config = ConfigReader::new("config.json", &map);
        refused(config.finish(&["harmless"]), &["config.json: a:", "not supported"]);
        config.usize("a").unwrap();
        let nested = config.object("nested").unwrap().unwrap();
        refused(config.finish(&["harmless"]), &["config.json: on:", "its value is true"]);
        config.bool_or("on", false).unwrap();
        config.finish(&["harmless"]).unwrap();
        refused(config.finish(&[]), &["harmless"]);

        nested.usize("b").unwrap();
        refused(nested.usize("d"), &["config.json: nested.d:", "missing"]);
        refused(nested.finish(&[]), &["config.json: nested.c:"]);
        nested.finish(&["c"]).unwrap();
    }

    #[test]
    fn a_prefix_is_a_view_of_the_same_object() {
        let map = map(json!({
            "general.name": "x", "llama.blocks": 2, "llama.zero": 0, "tokenizer.a": 1,
        }));
        let config = ConfigReader::new("m.gguf", &map);
        let llama = config.with_prefix("llama.");
        assert_eq!(llama.usize("blocks").unwrap(), 2);
        refused(llama.usize("zero"), &["m.gguf: llama.zero"]);
        refused(config.finish(&["tokenizer."]), &["general.name"]);
        config.finish(&["tokenizer.", "general."]).unwrap();
        refused(llama.finish(&["general.name"]), &["tokenizer.a"]);
    }
}
