//! Workers whose ids are written down in `tests/golden/ids.txt`: they must never change.

use std::path::{Path, PathBuf};

use rpc_parallel::prelude::*;
use serde::{Deserialize, Serialize};

/// Functions of every shape.
#[rpc_parallel::worker]
pub trait Shapes {
    /// Has nothing.
    fn nothing(&self);
    /// Is async; that does not count.
    async fn nothing_later(&self);
    /// Has references; the names do not count.
    async fn borrowed(&self, text: &str, path: &Path, numbers: &[u64], book: &Book) -> PathBuf;
    /// Has paths and brackets.
    fn nested(&self, books: std::collections::BTreeMap<String, Vec<Option<(u8, Book)>>>)
    -> [u8; 4];
    /// Sees the connection, which does not count.
    async fn seen(&self, cx: &Context<Reader>, number: i128) -> bool;
    /// Fails.
    async fn failing(&self, number: u32) -> Result<Book, AnyError>;
    /// Was called otherwise once, and had other arguments.
    #[worker(id = "shapes.kept")]
    async fn kept(&self, number: u32) -> u32;
    /// Is called like a word of the language.
    fn r#loop(&self, r#type: u32) -> u32;
}

/// Something to read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Book;

/// Somebody who is connected.
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
        /// Does all of it, in no interesting way.
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

    /// Functions called like those of the other one.
    #[rpc_parallel::worker]
    pub trait Shapes {
        /// Has nothing.
        fn nothing(&self);
    }

    /// Called like the other one.
    #[derive(Debug, Default, WorkerState)]
    pub struct Shaper;

    #[rpc_parallel::worker]
    impl Shapes for Shaper {
        fn nothing(&self) {}
    }
}
