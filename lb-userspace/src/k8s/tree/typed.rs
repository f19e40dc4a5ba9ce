//! Reads a Rust type from a [`Tree`], and says where it does not fit.
//!
//! As in Kubernetes, a field that is `null` counts as absent, and no scalar is turned into another:
//! an annotation `"2"` needs its quotes. Errors never repeat a value, which may be a password.

use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};

use super::{Entry, Tree, Value};

/// What does not fit, and where.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TypeError {
    /// Path of the field, `spec.addresses[1]`.
    pub path: String,
    /// Its line; 0 if not known.
    pub line: u32,
    /// What is wrong and what to do.
    pub message: String,
}

/// Reads a `T` from a tree.
///
/// # Errors
///
/// The first field that has another type than `T` wants, is missing, or is not known to `T`.
pub fn read<'de, T: Deserialize<'de>>(tree: &'de Tree) -> Result<T, TypeError> {
    T::deserialize(tree).map_err(|error| error.at(tree.line))
}

impl TypeError {
    fn at(mut self, line: u32) -> Self {
        if self.line == 0 {
            self.line = line;
        }
        self
    }

    fn under(mut self, key: &str) -> Self {
        let key = if key.contains(['.', '/']) {
            format!("[{key}]")
        } else {
            key.to_owned()
        };
        let separator = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{key}{separator}{}", self.path);
        self
    }
}

impl Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: Display>(message: T) -> Self {
        Self {
            message: message.to_string(),
            ..Self::default()
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = wanted(expected);
        let advice = match found {
            Unexpected::Bool(_)
            | Unexpected::Signed(_)
            | Unexpected::Unsigned(_)
            | Unexpected::Float(_)
                if expected.contains("string") =>
            {
                ": put it in quotes"
            }
            _ => "",
        };
        Self::custom(format_args!(
            "expected {expected}, found {}{advice}",
            name(found)
        ))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = wanted(expected);
        match found {
            // A number is no secret where a number is expected.
            Unexpected::Signed(number) => Self::custom(format_args!(
                "{number} is out of range: expected {expected}"
            )),
            Unexpected::Unsigned(number) => Self::custom(format_args!(
                "{number} is out of range: expected {expected}"
            )),
            _ => Self::custom(format_args!("expected {expected}")),
        }
    }

    fn unknown_field(_field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!(
            "unknown field; the fields here are {}",
            expected.join(", ")
        ))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom("is required").under(field)
    }
}

/// What serde expects, in words of Kubernetes.
fn wanted(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "i32" | "i64" => "a whole number".to_owned(),
        other => other.to_owned(),
    }
}

fn name(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Signed(_) | Unexpected::Unsigned(_) | Unexpected::Float(_) => "a number",
        Unexpected::Str(_) => "a string",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a map",
        Unexpected::Unit | Unexpected::Option => "nothing",
        _ => "something else",
    }
}

impl<'de> Deserializer<'de> for &'de Tree {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Negative(value) => visitor.visit_i64(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(value) => visitor.visit_borrowed_str(value),
            Value::List(items) => visitor.visit_seq(Items {
                items: items.iter(),
                index: 0,
            }),
            Value::Map(entries) => visitor.visit_map(Fields {
                entries: entries.iter(),
                current: None,
                skip_null: false,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    // `label-without-value:` is null in YAML and the empty string to Kubernetes.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.value {
            Value::Null => visitor.visit_borrowed_str(""),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match &self.value {
            Value::Map(entries) => visitor.visit_map(Fields {
                entries: entries.iter(),
                current: None,
                skip_null: true,
            }),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        seq tuple tuple_struct map enum identifier
    }
}

struct Items<'de> {
    items: std::slice::Iter<'de, Tree>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TypeError> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        seed.deserialize(item)
            .map(Some)
            .map_err(|error| error.at(item.line).under_index(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

impl TypeError {
    fn under_index(mut self, index: usize) -> Self {
        let separator = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("[{index}]{separator}{}", self.path);
        self
    }
}

struct Fields<'de> {
    entries: std::slice::Iter<'de, Entry>,
    current: Option<&'de Entry>,
    skip_null: bool,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TypeError> {
        let skip_null = self.skip_null;
        let Some(entry) = self
            .entries
            .find(|entry| !(skip_null && entry.value.value == Value::Null))
        else {
            return Ok(None);
        };
        self.current = Some(entry);
        let key: StrDeserializer<'_, TypeError> = entry.key.as_str().into_deserializer();
        seed.deserialize(key)
            .map(Some)
            .map_err(|error| error.at(entry.line).under(&entry.key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, TypeError> {
        let Some(entry) = self.current.take() else {
            return Err(de::Error::custom("a value was read before its key"));
        };
        seed.deserialize(&entry.value)
            .map_err(|error| error.at(entry.line).under(&entry.key))
    }
}
