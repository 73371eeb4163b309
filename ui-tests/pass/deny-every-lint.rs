//! Generated code causes no lint, even if the user denies all of them.

#![deny(
    warnings,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    unused_results,
    unused_lifetimes,
    single_use_lifetimes,
    elided_lifetimes_in_paths,
    let_underscore_drop,
    trivial_casts,
    unit_bindings,
    unnameable_types,
    rust_2018_idioms,
    nonstandard_style,
    future_incompatible
)]
#![forbid(unsafe_code)]

/// Documented.
pub mod public {
    use rpc_parallel::{Context, Pipe, PipeWriter, WorkerState, worker};

    /// Documented.
    #[worker]
    pub trait Bank {
        /// Documented.
        async fn deposit(&self, cx: &Context<String>, amount: u64, note: &str) -> u64;
        /// Documented.
        #[deprecated = "use `deposit`"]
        fn put(&self, amount: u64) -> Result<(), String>;
        /// Documented.
        #[allow(clippy::too_many_arguments)]
        fn many(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8);
        /// Documented.
        async fn deposit_all(&self, amounts: Pipe<u64>, receipts: PipeWriter<String>) -> Pipe<u64>;
        /// Documented.
        #[deprecated]
        #[worker(one_way)]
        fn note(&self, cx: &Context<String>, lines: Pipe<String>);
        /// Documented.
        #[worker(no_cancel)]
        async fn save(&self);
    }

    /// Documented.
    #[rpc_parallel::process]
    pub fn process(text: &str, numbers: Pipe<u64>) -> Result<Pipe<u64>, String> {
        if text.is_empty() { Err(String::new()) } else { Ok(numbers) }
    }

    /// Documented.
    #[deprecated]
    #[rpc_parallel::process]
    pub async fn old(amount: u64, _: PipeWriter<String>) -> u64 {
        amount
    }

    /// Documented.
    #[derive(Debug, Default, WorkerState)]
    pub struct Ledger;

    impl rpc_parallel::ConnectionState<Ledger> for String {
        type Init = Self;
        async fn init(_: &Ledger, name: Self) -> Result<Self, rpc_parallel::BoxError> {
            Ok(name)
        }
    }

    #[worker]
    impl Bank for Ledger {
        async fn deposit(&self, _cx: &Context<String>, amount: u64, _note: &str) -> u64 {
            amount
        }
        fn put(&self, _amount: u64) -> Result<(), String> {
            Ok(())
        }
        fn many(&self, _a: u8, _b: u8, _c: u8, _d: u8, _e: u8, _f: u8, _g: u8, _h: u8) {}
        async fn deposit_all(
            &self,
            amounts: Pipe<u64>,
            _receipts: PipeWriter<String>,
        ) -> Pipe<u64> {
            amounts
        }
        fn note(&self, _cx: &Context<String>, _lines: Pipe<String>) {}
        async fn save(&self) {}
    }
}

#[rpc_parallel::worker]
trait Private {
    fn unused(&self) -> u8;
    async fn never(&self, x: u8);
    #[worker(one_way)]
    fn all(&self, xs: rpc_parallel::Pipe<u8>);
}

#[rpc_parallel::process]
fn never_run(x: u8) -> u8 {
    x
}

#[rpc_parallel::entry(flavor = "multi_thread", threads = 2)]
async fn main() -> Result<(), String> {
    Ok(())
}
