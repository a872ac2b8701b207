//! Metadata values, turned into JSON.

use super::cursor::{Cursor, Parsed, Stop};
use serde_json::{Number, Value};

/// The scalar types and their numbers in the file.
#[derive(Clone, Copy)]
enum Scalar {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    U64,
    I64,
    F64,
}

const ARRAY: u32 = 9;

impl Scalar {
    fn from_id(id: u32) -> Option<Scalar> {
        Some(match id {
            0 => Scalar::U8,
            1 => Scalar::I8,
            2 => Scalar::U16,
            3 => Scalar::I16,
            4 => Scalar::U32,
            5 => Scalar::I32,
            6 => Scalar::F32,
            7 => Scalar::Bool,
            8 => Scalar::String,
            10 => Scalar::U64,
            11 => Scalar::I64,
            12 => Scalar::F64,
            _ => return None,
        })
    }

    /// The least number of bytes that a value takes.
    fn least_bytes(self) -> u64 {
        match self {
            Scalar::U8 | Scalar::I8 | Scalar::Bool => 1,
            Scalar::U16 | Scalar::I16 => 2,
            Scalar::U32 | Scalar::I32 | Scalar::F32 => 4,
            Scalar::String | Scalar::U64 | Scalar::I64 | Scalar::F64 => 8,
        }
    }

    fn read(self, cursor: &mut Cursor<'_>) -> Parsed<Value> {
        Ok(match self {
            Scalar::U8 => u8::from_le_bytes(cursor.array()?).into(),
            Scalar::I8 => i8::from_le_bytes(cursor.array()?).into(),
            Scalar::U16 => u16::from_le_bytes(cursor.array()?).into(),
            Scalar::I16 => i16::from_le_bytes(cursor.array()?).into(),
            Scalar::U32 => cursor.u32()?.into(),
            Scalar::I32 => i32::from_le_bytes(cursor.array()?).into(),
            Scalar::U64 => cursor.u64()?.into(),
            Scalar::I64 => i64::from_le_bytes(cursor.array()?).into(),
            Scalar::F32 => finite(f64::from(f32::from_le_bytes(cursor.array()?)))?,
            Scalar::F64 => finite(f64::from_le_bytes(cursor.array()?))?,
            Scalar::String => cursor.string()?.into(),
            Scalar::Bool => match cursor.array()? {
                [0] => false.into(),
                [1] => true.into(),
                [other] => return Err(Stop::Bad(format!("{other} is no boolean"))),
            },
        })
    }
}

fn finite(value: f64) -> Parsed<Value> {
    Number::from_f64(value)
        .map(Value::Number)
        .ok_or_else(|| Stop::Bad(format!("the value is {value}, which is not a finite number")))
}

/// How many array elements a whole header may still hold.
///
/// A one-byte element becomes a JSON value of dozens of bytes, so that the file's size alone would
/// be a poor bound; real headers have no more than one element for ten bytes, and less than two million.
pub(super) struct ElementBudget(u64);

impl ElementBudget {
    pub fn for_file(file_size: u64) -> Self {
        Self((file_size / 8 + (1 << 16)).min(1 << 22))
    }

    fn spend(&mut self, count: u64) -> Parsed<()> {
        self.0 = self
            .0
            .checked_sub(count)
            .ok_or_else(|| Stop::Bad(format!("an array of {count} elements is too much for this file")))?;
        Ok(())
    }
}

/// One value: its type, then its content.
pub(super) fn read(cursor: &mut Cursor<'_>, budget: &mut ElementBudget) -> Parsed<Value> {
    let id = cursor.u32()?;
    if id != ARRAY {
        return scalar(id)?.read(cursor);
    }
    let element_id = cursor.u32()?;
    if element_id == ARRAY {
        return Err(Stop::Bad("arrays of arrays are not supported".to_owned()));
    }
    let element = scalar(element_id)?;
    let count = cursor.u64()?;
    cursor.expect_room(count, element.least_bytes())?;
    budget.spend(count)?;
    // Bounded by the budget; growing step by step would hold a half more for a moment.
    let mut list = Vec::with_capacity(count as usize);
    for index in 0..count {
        let value = element.read(cursor).map_err(|stop| stop.about(|| format!("element {index}")))?;
        list.push(value);
    }
    Ok(Value::Array(list))
}

fn scalar(id: u32) -> Parsed<Scalar> {
    Scalar::from_id(id).ok_or_else(|| Stop::Bad(format!("there is no value type {id}")))
}
