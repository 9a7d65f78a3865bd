//! How many arguments a function takes, by its input type.

use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

/// How many arguments a type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Arity {
    /// So many, which need not be one: a tuple, a unit.
    Exactly(usize),
    /// Any number of one type: a sequence.
    Any,
    /// One, which the type is.
    One,
}

impl Arity {
    /// The arity of `In`, found by what it asks a deserializer for.
    pub(in crate::worker) fn of<In: DeserializeOwned>() -> Self {
        match In::deserialize(Probe) {
            Err(Asked(arity)) => arity,
            // It asks for nothing, so one argument is read and not looked at.
            Ok(_) => Arity::One,
        }
    }
}

/// A deserializer that gives nothing, and remembers as its error what it was asked for.
struct Probe;

#[derive(Debug)]
struct Asked(Arity);

impl<'de> Deserializer<'de> for Probe {
    type Error = Asked;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Asked> {
        Err(Asked(Arity::One))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Asked> {
        Err(Asked(Arity::Exactly(0)))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _visitor: V,
    ) -> Result<V::Value, Asked> {
        Err(Asked(Arity::Exactly(0)))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Asked> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Asked> {
        Err(Asked(Arity::Any))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, _visitor: V) -> Result<V::Value, Asked> {
        Err(Asked(Arity::Exactly(length)))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        _visitor: V,
    ) -> Result<V::Value, Asked> {
        Err(Asked(Arity::Exactly(length)))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        map struct enum identifier ignored_any
    }
}

impl de::Error for Asked {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Asked(Arity::One)
    }
}

impl std::error::Error for Asked {}

impl fmt::Display for Asked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}
