//! A serializer that rejects values which could not be decoded again.
//!
//! MessagePack has a single nil, so `Some` of a nil would be decoded as `None`. A value that is
//! nested without bound would overflow the stack of the process that encodes or decodes it. Both
//! fail with an error in the sending process instead.

use std::fmt::{self, Display};

use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct,
    SerializeStructVariant, SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
    Serializer,
};

/// The limit of nesting levels, for encoding and decoding. Each level uses stack space.
pub(super) const MAX_DEPTH: u16 = 256;

/// A value at some nesting depth, which serializes through a [`Guard`].
pub(super) struct Guarded<'a, T: ?Sized> {
    value: &'a T,
    depth: u16,
}

impl<'a, T: ?Sized> Guarded<'a, T> {
    pub(super) fn new(value: &'a T) -> Self {
        Self { value, depth: 0 }
    }
}

impl<T: Serialize + ?Sized> Serialize for Guarded<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Guard { inner: serializer, depth: self.depth })
    }
}

/// Wraps a serializer, or the serializer of a compound value, and counts the nesting depth.
struct Guard<S> {
    inner: S,
    depth: u16,
}

impl<S: Serializer> Guard<S> {
    /// Enters the next nesting level.
    fn enter(self) -> Result<(S, u16), S::Error> {
        if self.depth == MAX_DEPTH {
            return Err(S::Error::custom(format_args!(
                "the value is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        Ok((self.inner, self.depth + 1))
    }

    /// Begins a compound value.
    fn begin<C>(self, begin: impl FnOnce(S) -> Result<C, S::Error>) -> Result<Guard<C>, S::Error> {
        let (inner, depth) = self.enter()?;
        Ok(Guard { inner: begin(inner)?, depth })
    }
}

macro_rules! forward {
    ($($function:ident($($name:ident: $type:ty),*);)*) => {$(
        fn $function(self, $($name: $type),*) -> Result<S::Ok, S::Error> {
            self.inner.$function($($name),*)
        }
    )*};
}

impl<S: Serializer> Serializer for Guard<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Guard<S::SerializeSeq>;
    type SerializeTuple = Guard<S::SerializeTuple>;
    type SerializeTupleStruct = Guard<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Guard<S::SerializeTupleVariant>;
    type SerializeMap = Guard<S::SerializeMap>;
    type SerializeStruct = Guard<S::SerializeStruct>;
    type SerializeStructVariant = Guard<S::SerializeStructVariant>;

    forward! {
        serialize_bool(v: bool);
        serialize_i8(v: i8);
        serialize_i16(v: i16);
        serialize_i32(v: i32);
        serialize_i64(v: i64);
        serialize_i128(v: i128);
        serialize_u8(v: u8);
        serialize_u16(v: u16);
        serialize_u32(v: u32);
        serialize_u64(v: u64);
        serialize_u128(v: u128);
        serialize_f32(v: f32);
        serialize_f64(v: f64);
        serialize_char(v: char);
        serialize_str(v: &str);
        serialize_bytes(v: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let (inner, depth) = self.enter()?;
        if value.serialize(IsNil).is_ok() {
            return Err(S::Error::custom(
                "the value holds a `Some` of `None` or `()`, which would be decoded as `None`; \
                 use an enum",
            ));
        }
        inner.serialize_some(&Guarded { value, depth })
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let (inner, depth) = self.enter()?;
        inner.serialize_newtype_struct(name, &Guarded { value, depth })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let (inner, depth) = self.enter()?;
        inner.serialize_newtype_variant(name, index, variant, &Guarded { value, depth })
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.begin(|it| it.serialize_seq(len))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.begin(|it| it.serialize_tuple(len))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.begin(|it| it.serialize_tuple_struct(name, len))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.begin(|it| it.serialize_tuple_variant(name, index, variant, len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.begin(|it| it.serialize_map(len))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        self.begin(|it| it.serialize_struct(name, len))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.begin(|it| it.serialize_struct_variant(name, index, variant, len))
    }
}

macro_rules! parts {
    ($($compound:ident::$function:ident($($key:ident: $key_type:ty)?);)*) => {$(
        impl<S: $compound> $compound for Guard<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $function<T: Serialize + ?Sized>(
                &mut self,
                $($key: $key_type,)?
                value: &T,
            ) -> Result<(), S::Error> {
                self.inner.$function($($key,)? &Guarded { value, depth: self.depth })
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )*};
}

parts! {
    SerializeSeq::serialize_element();
    SerializeTuple::serialize_element();
    SerializeTupleStruct::serialize_field();
    SerializeTupleVariant::serialize_field();
    SerializeStruct::serialize_field(key: &'static str);
    SerializeStructVariant::serialize_field(key: &'static str);
}

impl<S: SerializeMap> SerializeMap for Guard<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.inner.serialize_key(&Guarded { value, depth: self.depth })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.inner.serialize_value(&Guarded { value, depth: self.depth })
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}

/// A serializer that succeeds for values which MessagePack encodes as nil, and fails for all
/// others.
struct IsNil;

/// The error of [`IsNil`].
#[derive(Debug)]
struct NotNil;

impl std::error::Error for NotNil {}

impl Display for NotNil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not nil")
    }
}

impl serde::ser::Error for NotNil {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

macro_rules! not_nil {
    ($($function:ident($($type:ty),*) -> $ok:ty;)*) => {$(
        fn $function(self, $(_: $type),*) -> Result<$ok, NotNil> {
            Err(NotNil)
        }
    )*};
}

type Never = Impossible<(), NotNil>;

impl Serializer for IsNil {
    type Ok = ();
    type Error = NotNil;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    not_nil! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_i128(i128) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_u128(u128) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple(usize) -> Never;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct(&'static str, usize) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Result<(), NotNil> {
        Err(NotNil)
    }

    fn serialize_none(self) -> Result<(), NotNil> {
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), NotNil> {
        Ok(())
    }

    // The guard rejects a nested `Some` of nil when it serializes the content.
    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), NotNil> {
        Err(NotNil)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotNil> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), NotNil> {
        Err(NotNil)
    }
}
