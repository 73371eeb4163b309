//! Panics in the code of users: caught, with their message and place.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::thread;

use super::pipe::PipeErrorKind;
use crate::wire::PanicReport;

thread_local! {
    /// Why this thread drops what has not come to its own end.
    static CUT_SHORT: RefCell<Option<PipeErrorKind>> = const { RefCell::new(None) };
    /// The last panic on this thread.
    static SEEN: RefCell<Option<PanicReport>> = const { RefCell::new(None) };
    /// How many have been seen on this thread. It costs next to nothing to look at, and is looked at
    /// for each element of a pipe.
    static SEEN_COUNT: Cell<usize> = const { Cell::new(0) };
    /// What this thread drops says nothing on its connections.
    static SILENT: Cell<bool> = const { Cell::new(false) };
    /// How many on this thread will see to it if there is a panic.
    static HANDLED: Cell<usize> = const { Cell::new(0) };
    /// Who is told of panics on this thread that nobody handles, instead of the whole process.
    static OWNER: RefCell<Option<Owner>> = const { RefCell::new(None) };
}

/// Is told of a panic that nobody handles, on a thread that belongs to it.
pub(crate) type Owner = Arc<dyn Fn(PanicReport) + Send + Sync>;

/// How much of a backtrace travels.
const MAX_BACKTRACE: usize = 16 * 1024;

/// What becomes of a panic that nobody handles.
static UNHANDLED: OnceLock<fn(PanicReport)> = OnceLock::new();

/// Nobody is to handle any.
static NONE_IS_HANDLED: AtomicBool = AtomicBool::new(false);

/// Makes panics leave their place for [`catch`]; whatever hook there was still runs.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let panic = describe(info);
            see(Some(panic.clone()));
            previous(info);
            // Where panics abort, nobody handles any, and they end the whole process.
            let aborts = cfg!(panic = "abort");
            let handled = HANDLED.get() > 0 && !NONE_IS_HANDLED.load(Ordering::Relaxed);
            if handled && !aborts {
                return;
            }
            let owner = OWNER.try_with(|it| it.borrow().clone()).ok().flatten();
            if let Some(owner) = owner.filter(|_| !aborts) {
                owner(panic);
            } else if let Some(unhandled) = UNHANDLED.get() {
                unhandled(panic);
            }
        }));
    });
}

/// From now on no panic is handled, as if nobody were there.
pub(crate) fn handle_no_panics() {
    NONE_IS_HANDLED.store(true, Ordering::Relaxed);
}

/// Says what becomes of panics that nobody handles. The first one who does so has its way.
pub(crate) fn on_unhandled(unhandled: fn(PanicReport)) {
    install_hook();
    let _ = UNHANDLED.set(unhandled);
}

/// Says to whom this thread belongs, and with it the panics that nobody handles.
pub(crate) fn belong_to(owner: Owner) {
    OWNER.set(Some(owner));
}

/// Somebody who will see to it if there is a panic on this thread.
struct Handler;

impl Handler {
    fn new() -> Self {
        HANDLED.set(HANDLED.get() + 1);
        Self
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        HANDLED.set(HANDLED.get() - 1);
    }
}

/// Says that panics on this thread are handled: a worker does not end because of one.
///
/// A panic outside of any call ends its worker, see [`WorkerFailure`](crate::WorkerFailure). This is
/// for threads whose owner catches panics and tells somebody, like those of a pool:
///
/// ```text
/// rayon::ThreadPoolBuilder::new().start_handler(|_| rpc_parallel::expert::handles_panics()).build()?
/// ```
///
/// # Panic hooks
///
/// Where a panic was, and whether it was outside of any call, is known from a panic hook. A worker's
/// process sets it before its `init`, any other with its first server or connection. It calls the
/// hook that was there. One that is set later (`std::panic::set_hook`, `color_eyre::install`) takes
/// its place: then panics in tasks and threads end nothing and are told to nobody, and those in calls
/// come without their place. So set hooks before, or have them call the one that
/// `std::panic::take_hook` returns, as one must in a worker.
pub fn handles_panics() {
    std::mem::forget(Handler::new());
}

/// Runs a closure that blocks or computes on a thread of its own, while other functions go on.
///
/// It is tokio's `spawn_blocking`, but for panics: one in the closure is one of the function that
/// awaits it, and so reaches the caller of that. (One in a task or thread that a function has spawned
/// ends the worker: nobody can know whether anybody waits for it.)
///
/// # Panics
///
/// The closure does, or there is no tokio runtime.
///
/// # Cancel safety
///
/// Dropping it does not end the closure, if that has begun.
pub async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let watched = || {
        let count = SEEN_COUNT.get();
        watch(run).map_err(|payload| (seen_since(count, &*payload), payload))
    };
    match tokio::task::spawn_blocking(watched).await {
        Ok(Ok(value)) => value,
        Ok(Err((seen, payload))) => {
            see(seen);
            panic::resume_unwind(payload)
        }
        // The runtime ends, and so does whoever waits.
        Err(_) => pending().await,
    }
}

/// Runs a piece of user code; a panic in it is an error.
///
/// This and what it calls run for each element of a pipe.
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, PanicReport> {
    if thread::panicking() {
        return catch_in_destructor(run);
    }
    let count = SEEN_COUNT.get();
    watch(run).map_err(|payload| caught(count, &*payload))
}

/// Does the same in a destructor that runs because of a panic which others have yet to catch.
#[cold]
fn catch_in_destructor<T>(run: impl FnOnce() -> T) -> Result<T, PanicReport> {
    let (outer, count) = (SEEN.take(), SEEN_COUNT.get());
    let result = watch(run).map_err(|payload| caught(count, &*payload));
    SEEN.set(outer);
    result
}

/// Runs a piece of user code, and sees to it if there is a panic in it.
fn watch<T>(run: impl FnOnce() -> T) -> thread::Result<T> {
    let _handler = Handler::new();
    // What the code has left half done is dropped with its call, or behind the user's own locks.
    panic::catch_unwind(AssertUnwindSafe(run))
}

#[cold]
fn caught(count: usize, payload: &(dyn Any + Send)) -> PanicReport {
    let unseen = || PanicReport { message: message(payload), location: None, backtrace: None };
    seen_since(count, payload).unwrap_or_else(unseen)
}

/// Takes what the hook has seen of a panic that was caught, if it ran.
fn seen_since(count: usize, payload: &(dyn Any + Send)) -> Option<PanicReport> {
    // No hook runs for a panic that is handed on; what was seen may be one before it.
    let seen = SEEN.take().filter(|_| SEEN_COUNT.get() != count);
    seen.filter(|it| it.message == message(payload))
}

/// Notes a panic on this thread.
fn see(panic: Option<PanicReport>) {
    SEEN.set(panic);
    SEEN_COUNT.set(SEEN_COUNT.get().wrapping_add(1));
}

/// Drops what has not come to its own end, so that the pipes in it can tell why.
pub(super) fn drop_unfinished<T>(unfinished: T, why: PipeErrorKind) {
    let _outer = Outer(CUT_SHORT.replace(Some(why)));
    // Whoever has the call dropped goes on after a panic.
    let _handler = Handler::new();
    drop(unfinished);
}

/// Drops all that belonged to a server which has ended: as with a process, none of it says anything
/// any more, such as that its streams are complete.
pub(crate) fn drop_silently(drop: impl FnOnce()) {
    /// What held before; it does again when this is dropped, also by a panic.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            SILENT.set(self.0);
        }
    }
    let _handler = Handler::new();
    let _before = Before(SILENT.replace(true));
    drop();
}

/// Says whether this thread drops what must not say anything any more.
pub(super) fn is_silent() -> bool {
    SILENT.get()
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
        let message = "(unknown)".to_owned();
        let unseen = || PanicReport { message, location: None, backtrace: None };
        return Some(PipeErrorKind::Panicked(seen.unwrap_or_else(unseen)));
    }
    CUT_SHORT.with_borrow(Clone::clone)
}

/// Runs a future to its end; a panic in it is an error.
pub(crate) async fn catch_future<T>(future: impl Future<Output = T>) -> Result<T, PanicReport> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch(|| future.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Err(panic).into(),
    })
    .await
}

fn describe(info: &PanicHookInfo<'_>) -> PanicReport {
    let location = info.location().map(ToString::to_string);
    PanicReport { message: message(info.payload()), location, backtrace: backtrace() }
}

/// Returns how this thread came here, if the environment asks for that.
fn backtrace() -> Option<String> {
    let backtrace = Backtrace::capture();
    if backtrace.status() != BacktraceStatus::Captured {
        return None;
    }
    let mut text = backtrace.to_string();
    if text.len() > MAX_BACKTRACE {
        let end = (0..=MAX_BACKTRACE).rev().find(|it| text.is_char_boundary(*it));
        text.truncate(end.unwrap_or_default());
        text.push_str("\n..");
    }
    Some(text)
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(a value that is no text)").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Builder;

    #[test]
    fn a_panic_is_an_error_with_its_message_and_place() {
        install_hook();

        let result = catch(|| -> u8 { panic!("seven {}", 7) });

        let PanicReport { message, location, .. } = result.expect_err("it did panic");
        assert_eq!(message, "seven 7");
        let location = location.expect("the hook has seen the place");
        assert!(location.starts_with(file!()), "{location}");
    }

    /// Panics and catches that, as a function may.
    fn panic_in_private() {
        let caught = panic::catch_unwind(|| panic!("nobody is told"));
        assert!(caught.is_err());
    }

    /// Panics as who hands on a panic of another thread does: no hook runs.
    fn hand_on(message: &'static str) {
        panic::resume_unwind(Box::new(message))
    }

    fn assert_handed_on(result: Result<(), PanicReport>) {
        let PanicReport { message, location, .. } = result.expect_err("it did panic");
        assert_eq!((message.as_str(), location), ("from elsewhere", None));
    }

    #[test]
    fn a_panic_that_was_caught_before_is_not_taken_for_this_one() {
        install_hook();

        panic_in_private();
        assert_handed_on(catch(|| hand_on("from elsewhere")));
        assert_handed_on(catch(|| {
            panic_in_private();
            hand_on("from elsewhere");
        }));
    }

    #[test]
    fn a_panic_that_was_caught_before_is_not_taken_for_one_that_blocks() {
        install_hook();
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build();
        let runtime = runtime.expect("a runtime with two threads");

        let result = runtime.block_on(async {
            let first = tokio::task::spawn_blocking(panic_in_private).await;
            first.expect("it catches its panic");
            catch_future(blocking(|| hand_on("from elsewhere"))).await
        });

        assert_handed_on(result);
    }

    #[test]
    fn what_is_caught_while_a_panic_unwinds_does_not_take_its_place() {
        struct Catches;
        impl Drop for Catches {
            fn drop(&mut self) {
                let message = catch(|| panic!("eight")).map(|(): ()| ()).map_err(|it| it.message);
                assert_eq!(message, Err("eight".to_owned()));
            }
        }
        install_hook();

        let result = catch(|| {
            let _catches = Catches;
            panic!("seven");
        });

        let PanicReport { message, location, .. } =
            result.map(|(): ()| ()).expect_err("it did panic");
        assert_eq!(message, "seven");
        assert!(location.is_some());
    }
}
