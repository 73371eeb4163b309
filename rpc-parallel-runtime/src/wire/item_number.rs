//! Numbers as items of a map: little-endian, as wide as their type, and without MessagePack.

use std::any::{Any, TypeId};

use super::byte_buffer::cast;

macro_rules! numbers {
    ($($number:ty as $wide:ty,)*) => {
        /// Returns the width of a number in bytes; `None` for other types. The compiler evaluates
        /// this to a constant.
        #[inline(always)]
        pub(super) fn width<T: 'static>() -> Option<usize> {
            $(if TypeId::of::<T>() == TypeId::of::<$number>() {
                return Some(size_of::<$wide>());
            })*
            (TypeId::of::<T>() == TypeId::of::<()>()).then_some(0)
        }

        /// Writes a value if it is a number. Returns whether it is.
        #[inline(always)]
        pub(super) fn write_number<T: Any>(value: &T, out: &mut Vec<u8>) -> bool {
            let any: &dyn Any = value;
            $(if let Some(number) = any.downcast_ref::<$number>() {
                out.extend_from_slice(&(*number as $wide).to_le_bytes());
                return true;
            })*
            any.is::<()>()
        }

        /// Converts the bytes of a number. Returns `None` for other types, and if the number does
        /// not fit into its type.
        #[inline(always)]
        pub(super) fn read_number<T: 'static>(bytes: &[u8]) -> Option<T> {
            $(if TypeId::of::<T>() == TypeId::of::<$number>() {
                let number = <$wide>::from_le_bytes(*bytes.first_chunk()?);
                return cast(<$number>::try_from(number).ok()?);
            })*
            cast(())
        }
    };
}

numbers! {
    u64 as u64,
    i64 as i64,
    f64 as f64,
    u32 as u32,
    i32 as i32,
    f32 as f32,
    u16 as u16,
    i16 as i16,
    u8 as u8,
    i8 as i8,
    usize as u64,
    isize as i64,
}
