//! The types of which shared memory consists.

/// A number, or an array of numbers: every combination of bytes is a value, and none is padding.
///
/// # Safety
///
/// The type has no padding, no pointers and no invalid values, and an alignment of at most a page.
pub unsafe trait Plain: Copy + Send + Sync + sealed::Sealed + 'static {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! plain {
    ($($number:ty)*) => {$(
        impl sealed::Sealed for $number {}
        // SAFETY: it is an integer or a floating-point number, which have no padding, no pointers
        // and no invalid values, and are aligned to 16 bytes at most.
        unsafe impl Plain for $number {}
    )*};
}

plain! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }

impl<T: Plain, const N: usize> sealed::Sealed for [T; N] {}
// SAFETY: an array has the alignment of its elements and no padding between them.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}
