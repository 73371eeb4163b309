//! Panics in the code of users: caught, with their message and place.

use std::any::Any;
use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::pin;
use std::sync::Once;
use std::thread;

use super::pipe::PipeErrorKind;
use crate::wire::Panic;

thread_local! {
    /// Why this thread drops what has not come to its own end.
    static CUT_SHORT: RefCell<Option<PipeErrorKind>> = const { RefCell::new(None) };
    /// The last panic on this thread.
    static SEEN: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Makes panics leave their place for [`catch`]; whatever hook there was still runs.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            SEEN.set(Some(describe(info)));
            previous(info);
        }));
    });
}

/// Runs a piece of user code; a panic in it is an error.
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    // What the code has left half done is dropped with its call, or behind the user's own locks.
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    result.map_err(|payload| {
        let unseen = || Panic { message: message(&*payload), location: None };
        SEEN.take().unwrap_or_else(unseen)
    })
}

/// Drops what has not come to its own end, so that the pipes in it can tell why.
pub(super) fn drop_unfinished<T>(unfinished: T, why: PipeErrorKind) {
    let _outer = Outer(CUT_SHORT.replace(Some(why)));
    drop(unfinished);
}

/// What held before; it does again when this is dropped, also by a panic.
struct Outer(Option<PipeErrorKind>);

impl Drop for Outer {
    fn drop(&mut self) {
        CUT_SHORT.set(self.0.take());
    }
}

/// Tells why what is being dropped on this thread has not come to its own end.
pub(super) fn cut_short() -> Option<PipeErrorKind> {
    if thread::panicking() {
        let seen = SEEN.with_borrow(Clone::clone);
        let unseen = || Panic { message: "(unknown)".to_owned(), location: None };
        return Some(PipeErrorKind::Panicked(seen.unwrap_or_else(unseen)));
    }
    CUT_SHORT.with_borrow(Clone::clone)
}

/// Runs a future to its end; a panic in it is an error.
pub(crate) async fn catch_future<T>(future: impl Future<Output = T>) -> Result<T, Panic> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch(|| future.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Err(panic).into(),
    })
    .await
}

fn describe(info: &PanicHookInfo<'_>) -> Panic {
    Panic { message: message(info.payload()), location: info.location().map(ToString::to_string) }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(a value that is no text)").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message_and_place() {
        install_hook();

        let result = catch(|| -> u8 { panic!("seven {}", 7) });

        let Panic { message, location } = result.expect_err("it did panic");
        assert_eq!(message, "seven 7");
        let location = location.expect("the hook has seen the place");
        assert!(location.starts_with(file!()), "{location}");
    }
}
