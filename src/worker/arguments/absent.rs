//! An argument that was left out: nothing for an `Option`, too few for every other type.

use serde::de::{Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::Mismatch;

/// Stands where an argument would be.
pub(super) struct Absent {
    /// How many arguments there are.
    pub(super) given: usize,
}

impl<'de> Deserializer<'de> for Absent {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Mismatch> {
        Err(Mismatch::Count(self.given))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
