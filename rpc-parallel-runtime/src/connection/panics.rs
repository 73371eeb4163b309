//! Catching panics of user code, with their messages and locations.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::thread::{self, LocalKey};

use super::pipe::PipeErrorKind;
use crate::wire::PanicReport;

thread_local! {
    /// The error for pipes that this thread drops before they are complete.
    static CUT_SHORT: RefCell<Option<PipeErrorKind>> = const { RefCell::new(None) };
    /// The last panic on this thread, as the panic hook has recorded it.
    static LAST_PANIC: RefCell<Option<PanicReport>> = const { RefCell::new(None) };
    /// The number of panics on this thread. Comparing it is cheap, and happens for each element of
    /// a pipe.
    static PANIC_COUNT: Cell<usize> = const { Cell::new(0) };
    /// Whether destructors on this thread write nothing to connections.
    static SILENT: Cell<bool> = const { Cell::new(false) };
    /// The number of handlers on the stack of this thread that catch panics.
    static HANDLED: Cell<usize> = const { Cell::new(0) };
    /// The callback for unhandled panics of this thread, which otherwise concern the whole process.
    static OWNER: RefCell<Option<Owner>> = const { RefCell::new(None) };
    /// Whether all panics on this thread count as unhandled, also those that are caught.
    static NONE_IS_HANDLED_HERE: Cell<bool> = const { Cell::new(false) };
}

/// A callback for the unhandled panics of the threads that belong to a server.
pub(crate) type Owner = Arc<dyn Fn(PanicReport) + Send + Sync>;

/// The maximum length of a backtrace in a report, in bytes.
const MAX_BACKTRACE: usize = 16 * 1024;

/// The callback for unhandled panics of the process.
static UNHANDLED: OnceLock<fn(PanicReport)> = OnceLock::new();

/// Whether all panics count as unhandled, also those that are caught.
static NONE_IS_HANDLED: AtomicBool = AtomicBool::new(false);

/// Installs the panic hook that records the location of panics for [`catch`], and reports unhandled
/// panics. The hook calls the previous hook.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let panic = describe(info);
            record(Some(panic.clone()));
            previous(info);
            // With `panic = "abort"` no panic is handled, and each ends the whole process.
            let aborts = cfg!(panic = "abort");
            let none = NONE_IS_HANDLED.load(Ordering::Relaxed) || NONE_IS_HANDLED_HERE.get();
            let handled = HANDLED.get() > 0 && !none;
            if handled && !aborts {
                return;
            }
            let owner = read(&OWNER);
            if let Some(owner) = owner.filter(|_| !aborts) {
                owner(panic);
            } else if let Some(unhandled) = UNHANDLED.get() {
                unhandled(panic);
            }
        }));
    });
}

/// Treats every panic as unhandled from now on.
pub(crate) fn handle_no_panics() {
    NONE_IS_HANDLED.store(true, Ordering::Relaxed);
}

/// Treats every panic on this thread as unhandled from now on.
pub(crate) fn handle_no_panics_of_thread() {
    NONE_IS_HANDLED_HERE.set(true);
}

/// Returns whether every panic on this thread ends the worker to which the thread belongs.
pub(super) fn ends_worker_of_thread() -> bool {
    NONE_IS_HANDLED_HERE.get()
}

/// Sets the callback for unhandled panics of this process. Only the first call has an effect.
pub(crate) fn on_unhandled(unhandled: fn(PanicReport)) {
    install_hook();
    let _ = UNHANDLED.set(unhandled);
}

/// Sets the callback for unhandled panics of this thread.
pub(crate) fn set_panic_owner(owner: Owner) {
    OWNER.set(Some(owner));
}

/// A handler of panics on this thread, for as long as it exists.
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

/// Declares that the panics of this thread are handled, so that they do not end the worker.
///
/// A panic outside of any call ends the worker, see [`WorkerFailure`](crate::WorkerFailure). Call
/// this function on threads whose owner catches and reports panics, such as those of a thread pool:
///
/// ```text
/// rayon::ThreadPoolBuilder::new().start_handler(|_| rpc_parallel::expert::handles_panics()).build()?
/// ```
///
/// # Panic hooks
///
/// A panic hook records the location of panics, and detects panics outside of calls. A worker
/// process installs this hook before its `init`. Any other process installs it with its first
/// server or connection. The hook calls the hook that was installed before.
///
/// A hook that is installed later (`std::panic::set_hook`, `color_eyre::install`) replaces it. Then
/// panics in tasks and threads are neither reported nor end the worker, and panics in calls are
/// reported without their location. So install hooks earlier, or, as is necessary in a worker, let
/// the new hook call the one that `std::panic::take_hook` returns.
pub fn handles_panics() {
    std::mem::forget(Handler::new());
}

/// Runs a closure that blocks or computes on a separate thread, so that other functions of the
/// worker keep running.
///
/// It differs from [`tokio::task::spawn_blocking`] in its panics: a panic in the closure resumes in
/// the function that awaits it, and so reaches the caller of the function. In contrast, a panic in
/// a task or thread that a function spawns ends the worker, because the runtime cannot detect
/// whether any code handles the panic.
///
/// # Panics
///
/// Panics if the closure panics, or if it is called outside of a tokio runtime.
///
/// # Cancel safety
///
/// Dropping the future does not stop a closure that has begun.
///
/// ```
/// # async fn example() {
/// let primes = rpc_parallel::blocking(|| {
///     (2..10_000_u32).filter(|n| (2..*n).all(|it| n % it != 0)).count()
/// })
/// .await;
/// assert_eq!(primes, 1229);
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example());
/// ```
pub async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let catching = || {
        let count = PANIC_COUNT.get();
        catch_payload(run).map_err(|payload| (recorded_since(count, &*payload), payload))
    };
    match tokio::task::spawn_blocking(catching).await {
        Ok(Ok(value)) => value,
        Ok(Err((recorded, payload))) => {
            record(recorded);
            panic::resume_unwind(payload)
        }
        // The runtime is shutting down, and drops this future.
        Err(_) => pending().await,
    }
}

/// Runs user code, and returns its panic as an error.
///
/// It runs for each element of a pipe, so it must be fast.
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, PanicReport> {
    if thread::panicking() {
        return catch_in_destructor(run);
    }
    let count = PANIC_COUNT.get();
    catch_payload(run).map_err(|payload| report_of(count, &*payload))
}

/// Runs user code in a destructor while another panic unwinds, and keeps the report of that panic.
#[cold]
fn catch_in_destructor<T>(run: impl FnOnce() -> T) -> Result<T, PanicReport> {
    let (outer, count) = (replace(&LAST_PANIC, None), PANIC_COUNT.get());
    let result = catch_payload(run).map_err(|payload| report_of(count, &*payload));
    replace(&LAST_PANIC, outer);
    result
}

/// Runs user code and catches its panic.
fn catch_payload<T>(run: impl FnOnce() -> T) -> thread::Result<T> {
    let _handler = Handler::new();
    // Values that the panic leaves inconsistent are dropped with the call, or are behind locks of
    // the user, which are poisoned.
    panic::catch_unwind(AssertUnwindSafe(run))
}

#[cold]
fn report_of(count: usize, payload: &(dyn Any + Send)) -> PanicReport {
    recorded_since(count, payload).unwrap_or_else(|| report_of_task(payload))
}

/// Returns the report of a panic that has ended a task, possibly on another thread.
pub(super) fn report_of_task(payload: &(dyn Any + Send)) -> PanicReport {
    PanicReport { message: message(payload), location: None, backtrace: None }
}

/// Returns the record of a caught panic, if the hook ran.
fn recorded_since(count: usize, payload: &(dyn Any + Send)) -> Option<PanicReport> {
    // `resume_unwind` runs no hook: then the record may be of an earlier panic.
    let recorded = replace(&LAST_PANIC, None).filter(|_| PANIC_COUNT.get() != count);
    recorded.filter(|it| it.message == message(payload))
}

/// Records a panic on this thread.
fn record(panic: Option<PanicReport>) {
    replace(&LAST_PANIC, panic);
    PANIC_COUNT.set(PANIC_COUNT.get().wrapping_add(1));
}

/// Drops a value, and ends the pipes in it with this error.
pub(crate) fn drop_unfinished<T>(unfinished: T, why: PipeErrorKind) {
    let _outer = Outer(replace(&CUT_SHORT, Some(why)));
    // The code that drops the call catches a panic of its destructors.
    let _handler = Handler::new();
    drop(unfinished);
}

/// Drops the values of a server that has ended, without writing to its connections: otherwise its
/// streams would seem complete. It has the same effect as the end of a process.
pub(crate) fn drop_silently(drop: impl FnOnce()) {
    /// Restores the outer value when it is dropped, also by a panic.
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

/// Returns whether destructors on this thread must not write to connections.
pub(super) fn is_silent() -> bool {
    SILENT.get()
}

/// Restores the outer value when it is dropped, also by a panic.
struct Outer(Option<PipeErrorKind>);

impl Drop for Outer {
    fn drop(&mut self) {
        replace(&CUT_SHORT, self.0.take());
    }
}

/// Returns the error for a pipe that this thread is dropping. Returns `None` if the drop is the
/// regular end of the pipe.
pub(super) fn cut_short() -> Option<PipeErrorKind> {
    if thread::panicking() {
        let recorded = read(&LAST_PANIC);
        let message = "(unknown)".to_owned();
        let unrecorded = || PanicReport { message, location: None, backtrace: None };
        return Some(PipeErrorKind::Panicked(recorded.unwrap_or_else(unrecorded)));
    }
    read(&CUT_SHORT)
}

/// A variable of this thread. Destructors at the end of a thread may run after it is gone.
type Variable<T> = LocalKey<RefCell<Option<T>>>;

/// Replaces a value, and returns the previous one.
fn replace<T>(variable: &'static Variable<T>, value: Option<T>) -> Option<T> {
    variable.try_with(|it| it.replace(value)).ok().flatten()
}

fn read<T: Clone>(variable: &'static Variable<T>) -> Option<T> {
    variable.try_with(|it| it.borrow().clone()).ok().flatten()
}

/// Runs a future to completion, and returns its panic as an error.
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

/// Captures a backtrace of this thread, if `RUST_BACKTRACE` or `RUST_LIB_BACKTRACE` asks for it.
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
    text.unwrap_or("(payload is not a string)").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Builder;

    #[test]
    fn caught_panic_has_its_message_and_location() {
        install_hook();

        let result = catch(|| -> u8 { panic!("seven {}", 7) });

        let PanicReport { message, location, .. } = result.expect_err("the closure panics");
        assert_eq!(message, "seven 7");
        let location = location.expect("the hook has recorded the location");
        assert!(location.starts_with(file!()), "{location}");
    }

    /// Panics and catches the panic, as the code of a function may do.
    fn panic_and_catch() {
        let caught = panic::catch_unwind(|| panic!("caught by the function"));
        assert!(caught.is_err());
    }

    /// Resumes a panic, as code does that propagates the panic of another thread. No hook runs.
    fn resume(message: &'static str) {
        panic::resume_unwind(Box::new(message))
    }

    fn assert_resumed(result: Result<(), PanicReport>) {
        let PanicReport { message, location, .. } = result.expect_err("the closure panics");
        assert_eq!((message.as_str(), location), ("from elsewhere", None));
    }

    #[test]
    fn earlier_caught_panic_is_not_reported_for_resumed_one() {
        install_hook();

        panic_and_catch();
        assert_resumed(catch(|| resume("from elsewhere")));
        assert_resumed(catch(|| {
            panic_and_catch();
            resume("from elsewhere");
        }));
    }

    #[test]
    fn earlier_caught_panic_is_not_reported_for_blocking_closure() {
        install_hook();
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build();
        let runtime = runtime.expect("a runtime with two threads");

        let result = runtime.block_on(async {
            let first = tokio::task::spawn_blocking(panic_and_catch).await;
            first.expect("the closure catches its panic");
            catch_future(blocking(|| resume("from elsewhere"))).await
        });

        assert_resumed(result);
    }

    #[test]
    fn panic_caught_in_destructor_keeps_report_of_unwinding_one() {
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
            result.map(|(): ()| ()).expect_err("the closure panics");
        assert_eq!(message, "seven");
        assert!(location.is_some());
    }
}
