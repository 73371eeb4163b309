//! Encodes and decodes the arguments of a function as one tuple.

use std::any::type_name;
use std::borrow::Borrow;

use crate::wire::{
    Argument, Body, Codec, DecodeError, Decoder, EncodeError, Sink, strip_tuple_len,
    write_tuple_len,
};

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
