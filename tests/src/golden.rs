//! Workers whose ids `tests/golden/ids.txt` lists. Those ids must never change.

use std::path::{Path, PathBuf};

use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

/// Functions with all kinds of names, arguments and results.
#[rpc_parallel::worker]
pub trait Shapes {
    /// Has no arguments and no result.
    fn nothing(&self);
    /// Is `async`, which is no part of the id.
    async fn nothing_later(&self);
    /// Takes references. The names of arguments are no part of the id.
    async fn borrowed(&self, text: &str, path: &Path, numbers: &[u64], book: &Book) -> PathBuf;
    /// Has paths and generic types.
    fn nested(&self, books: std::collections::BTreeMap<String, Vec<Option<(u8, Book)>>>)
    -> [u8; 4];
    /// Takes a `Context`, which is no part of the id.
    async fn seen(&self, cx: &Context<Reader>, number: i128) -> bool;
    /// Returns a `Result`.
    async fn failing(&self, number: u32) -> Result<Book, AnyError>;
    /// Has a fixed id.
    #[worker(id = "shapes.kept")]
    async fn kept(&self, number: u32) -> u32;
    /// Is named like a keyword.
    fn r#loop(&self, r#type: u32) -> u32;
}

/// A user's type.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Book;

/// The state of a connection.
#[derive(Debug)]
pub struct Reader;

impl<W: Sync> ConnectionState<W> for Reader {
    type Init = ();

    async fn init(_: &W, (): ()) -> Result<Self, BoxError> {
        Ok(Self)
    }
}

macro_rules! shaper {
    ($(#[$attribute:meta])* $name:ident) => {
        /// Implements all functions.
        #[derive(Debug, Default, WorkerState)]
        pub struct $name;

        $(#[$attribute])*
        impl Shapes for $name {
            fn nothing(&self) {}

            async fn nothing_later(&self) {}

            async fn borrowed(&self, _: &str, path: &Path, _: &[u64], _: &Book) -> PathBuf {
                path.to_owned()
            }

            fn nested(
                &self,
                _: std::collections::BTreeMap<String, Vec<Option<(u8, Book)>>>,
            ) -> [u8; 4] {
                [0; 4]
            }

            async fn seen(&self, _: &Context<Reader>, number: i128) -> bool {
                number > 0
            }

            async fn failing(&self, _: u32) -> Result<Book, AnyError> {
                Ok(Book)
            }

            async fn kept(&self, number: u32) -> u32 {
                number
            }

            fn r#loop(&self, r#type: u32) -> u32 {
                r#type
            }
        }
    };
}

shaper! {
    #[rpc_parallel::worker]
    Shaper
}

shaper! {
    #[rpc_parallel::worker(id = "shaper.kept")]
    KeptShaper
}

/// The same trait in another module.
pub mod inner {
    use rpc_parallel::prelude::*;

    /// A trait with the same name and function.
    #[rpc_parallel::worker]
    pub trait Shapes {
        /// Has no arguments and no result.
        fn nothing(&self);
    }

    /// A worker type with the same name.
    #[derive(Debug, Default, WorkerState)]
    pub struct Shaper;

    #[rpc_parallel::worker]
    impl Shapes for Shaper {
        fn nothing(&self) {}
    }
}
