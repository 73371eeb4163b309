//! Encodes and decodes the arguments of a function as one tuple.

use std::any::type_name;
use std::borrow::Borrow;

use crate::wire::{
    Argument, Body, Codec, DecodeError, Decoder, EncodeError, Sink, strip_tuple_len,
    write_tuple_len,
};
#[cfg(feature = "pool")]
use crate::wire::{ItemError, ItemReader, TooLarge};

/// A tuple with one [`Codec`] for each argument of a function.
///
/// It needs no bound on the argument types: the codecs are created where the types are written.
#[doc(hidden)]
pub trait Arguments: Copy + Send + Sync + 'static {
    /// The tuple of the arguments in owned form, as the worker decodes them.
    type Owned;

    /// The input of a [`Function`](super::Function): the arguments in owned form, a single one
    /// without a tuple.
    type Input;

    /// The tuple of references to the arguments, as the client encodes them.
    type Borrowed<'a>;

    /// Encodes the arguments.
    fn encode(self, given: Self::Borrowed<'_>, sink: &mut Sink<'_>) -> Result<(), EncodeError>;

    /// Decodes the arguments, which must take up the whole body.
    fn decode(self, body: Body<'_>) -> Result<Self::Owned, DecodeError>;

    /// Borrows the arguments from the input of a function.
    fn borrow(input: &Self::Input) -> Self::Borrowed<'_>;

    /// Appends the arguments as one item of a map.
    ///
    /// # Errors
    ///
    /// An argument cannot be encoded, or the item exceeds `max` bytes. Nothing was appended.
    #[cfg(feature = "pool")]
    fn encode_item(
        self,
        given: Self::Borrowed<'_>,
        out: &mut Vec<u8>,
        max: usize,
    ) -> Result<(), ItemError>;

    /// Decodes one item of a map.
    ///
    /// # Errors
    ///
    /// The reader is anywhere in the item.
    #[cfg(feature = "pool")]
    fn decode_item(self, reader: &mut ItemReader<'_>) -> Result<Self::Owned, DecodeError>;

    /// Skips one item of a map. Returns whether it is complete.
    #[cfg(feature = "pool")]
    fn skip_item(self, reader: &mut ItemReader<'_>) -> bool;
}

impl Arguments for () {
    type Owned = ();
    type Input = ();
    type Borrowed<'a> = ();

    fn encode(self, (): (), sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        write_tuple_len(0, sink);
        Ok(())
    }

    fn decode(self, body: Body<'_>) -> Result<(), DecodeError> {
        Decoder::new(strip_tuple_len(0, body)?).finish(type_name::<()>())
    }

    fn borrow((): &()) {}

    #[cfg(feature = "pool")]
    fn encode_item(self, (): (), _: &mut Vec<u8>, _: usize) -> Result<(), ItemError> {
        Ok(())
    }

    #[cfg(feature = "pool")]
    fn decode_item(self, _: &mut ItemReader<'_>) -> Result<(), DecodeError> {
        Ok(())
    }

    #[cfg(feature = "pool")]
    fn skip_item(self, _: &mut ItemReader<'_>) -> bool {
        true
    }
}

/// Checks the length of the item that begins at `start`, and removes it if it is too large.
#[cfg(feature = "pool")]
#[inline(always)]
fn check_item(
    encoded: Result<(), ItemError>,
    start: usize,
    out: &mut Vec<u8>,
    max: usize,
) -> Result<(), ItemError> {
    let size = out.len() - start;
    let error = match encoded {
        Ok(()) if size <= max => return Ok(()),
        Ok(()) => TooLarge { size, max }.into(),
        Err(error) => error,
    };
    out.truncate(start);
    Err(error)
}

macro_rules! arguments {
    ($len:literal: $($A:ident $a:ident)*; Input = $Input:ty; $input:pat => $borrowed:expr) => {
        #[expect(non_snake_case, reason = "a codec has the name of its type")]
        impl<$($A: ?Sized + Argument + 'static),*> Arguments for ($(Codec<$A>,)*) {
            type Owned = ($($A::Owned,)*);
            type Input = $Input;
            type Borrowed<'a> = ($(&'a $A,)*);

            fn encode(
                self,
                given: Self::Borrowed<'_>,
                sink: &mut Sink<'_>,
            ) -> Result<(), EncodeError> {
                write_tuple_len($len, sink);
                let ($($A,)*) = self;
                let ($($a,)*) = given;
                $(($A.encode)($a, sink)?;)*
                Ok(())
            }

            fn decode(self, body: Body<'_>) -> Result<Self::Owned, DecodeError> {
                let mut decoder = Decoder::new(strip_tuple_len($len, body)?);
                let ($($A,)*) = self;
                let owned = ($(($A.decode)(&mut decoder)?,)*);
                decoder.finish(type_name::<Self::Owned>())?;
                Ok(owned)
            }

            fn borrow($input: &Self::Input) -> Self::Borrowed<'_> {
                $borrowed
            }

            #[cfg(feature = "pool")]
            #[inline]
            fn encode_item(
                self,
                given: Self::Borrowed<'_>,
                out: &mut Vec<u8>,
                max: usize,
            ) -> Result<(), ItemError> {
                let start = out.len();
                let ($($A,)*) = self;
                let ($($a,)*) = given;
                let encoded = Ok(())$(.and_then(|()| ($A.encode_item)($a, out, max)))*;
                check_item(encoded, start, out, max)
            }

            #[cfg(feature = "pool")]
            #[inline]
            fn decode_item(self, reader: &mut ItemReader<'_>) -> Result<Self::Owned, DecodeError> {
                let ($($A,)*) = self;
                Ok(($(($A.decode_item)(reader)?,)*))
            }

            #[cfg(feature = "pool")]
            #[inline]
            fn skip_item(self, reader: &mut ItemReader<'_>) -> bool {
                let ($($A,)*) = self;
                true $(&& ($A.skip_item)(reader))*
            }
        }
    };
    ($len:literal: $($A:ident $a:ident)*) => {
        arguments!($len: $($A $a)*; Input = ($($A::Owned,)*); ($($a,)*) => ($($a.borrow(),)*));
    };
}

arguments!(1: A a; Input = A::Owned; a => (a.borrow(),));
arguments!(2: A a B b);
arguments!(3: A a B b C c);
arguments!(4: A a B b C c D d);
arguments!(5: A a B b C c D d E e);
arguments!(6: A a B b C c D d E e F f);
arguments!(7: A a B b C c D d E e F f G g);
arguments!(8: A a B b C c D d E e F f G g H h);
arguments!(9: A a B b C c D d E e F f G g H h I i);
arguments!(10: A a B b C c D d E e F f G g H h I i J j);
arguments!(11: A a B b C c D d E e F f G g H h I i J j K k);
arguments!(12: A a B b C c D d E e F f G g H h I i J j K k L l);
arguments!(13: A a B b C c D d E e F f G g H h I i J j K k L l M m);
arguments!(14: A a B b C c D d E e F f G g H h I i J j K k L l M m N n);
arguments!(15: A a B b C c D d E e F f G g H h I i J j K k L l M m N n O o);
arguments!(16: A a B b C c D d E e F f G g H h I i J j K k L l M m N n O o P p);
