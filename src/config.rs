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

    /// One integer or a list of them, as `eos_token_id` has either; empty if it is absent.
    pub fn one_or_more(&self, key: &str) -> Result<Vec<usize>> {
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(_)) => Ok(self.opt_counts(key)?.unwrap_or_default()),
            Some(value) => Ok(vec![self.integer(key, value)?]),
        }
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
