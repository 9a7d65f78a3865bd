//! One argument that came as text: read as JSON of the type that it is for, else as a string.

use serde::de::value::{Error, StrDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};

use super::without_position;

/// An argument that came as text.
pub(super) struct Text<'de>(pub(super) &'de [u8]);

impl<'de> Text<'de> {
    fn text(&self) -> Result<&'de str, Error> {
        std::str::from_utf8(self.0).map_err(|_| de::Error::custom("it is not UTF-8"))
    }

    /// Its content for a type that a string can be: what a JSON string says, else the text itself.
    fn string(&self) -> Result<String, Error> {
        let text = self.text()?;
        Ok(serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()))
    }

    /// Reads it as JSON, the way `read` asks for it.
    fn json<T>(
        &self,
        read: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::StrRead<'de>>) -> serde_json::Result<T>,
    ) -> Result<T, Error> {
        let mut json = serde_json::Deserializer::from_str(self.text()?);
        let value = read(&mut json).and_then(|value| json.end().map(|()| value));
        value.map_err(|error| de::Error::custom(without_position(error)))
    }

    fn is_json(&self) -> bool {
        serde_json::from_slice::<de::IgnoredAny>(self.0).is_ok()
    }
}

/// Numbers and truth values: `FromStr` reads all that JSON allows for them, and says clearly what is wrong.
macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let value: $type = self.text()?.trim().parse().map_err(de::Error::custom)?;
            visitor.$visit(value)
        }
    )*};
}

/// Types that are written as JSON, or not at all.
macro_rules! json {
    ($($method:ident($($name:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, Error> {
            self.json(|json| json.$method($($name,)* visitor))
        }
    )*};
}

impl<'de> Deserializer<'de> for Text<'de> {
    type Error = Error;

    parsed! {
        deserialize_bool visit_bool bool
        deserialize_i8 visit_i8 i8
        deserialize_i16 visit_i16 i16
        deserialize_i32 visit_i32 i32
        deserialize_i64 visit_i64 i64
        deserialize_i128 visit_i128 i128
        deserialize_u8 visit_u8 u8
        deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32
        deserialize_u64 visit_u64 u64
        deserialize_u128 visit_u128 u128
        deserialize_f32 visit_f32 f32
        deserialize_f64 visit_f64 f64
    }

    json! {
        deserialize_unit()
        deserialize_unit_struct(name: &'static str)
        deserialize_seq()
        deserialize_tuple(length: usize)
        deserialize_tuple_struct(name: &'static str, length: usize)
        deserialize_map()
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_json() {
            self.json(|json| json.deserialize_any(visitor))
        } else {
            visitor.visit_str(self.text()?)
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.string()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.string()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.string()?)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.string()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bytes(self.0)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bytes(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0 == b"null" { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.is_json() {
            self.json(|json| json.deserialize_enum(name, variants, visitor))
        } else {
            let variant: StrDeserializer<'de, Error> = self.text()?.into_deserializer();
            visitor.visit_enum(variant)
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}
