//! Waiting for a future in code that is not async.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::runtime::Handle;

/// Unparks the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future that needs no tokio runtime of this thread.
///
/// # Panics
///
/// Panics in a tokio runtime, whose other tasks would wait too.
#[track_caller]
pub(in crate::pool) fn block_on<F: Future>(future: F) -> F::Output {
    assert!(
        Handle::try_current().is_err(),
        "this function blocks its thread, and was called in a tokio runtime; await the future there"
    );
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // A wake-up that comes before this call makes it return at once.
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn value_of_other_thread_is_awaited() {
        let (sender, receiver) = oneshot::channel();
        let sending = thread::spawn(move || sender.send(7));

        assert_eq!(block_on(receiver), Ok(7));
        assert_eq!(sending.join().expect("no panic"), Ok(()));
    }

    #[tokio::test]
    #[should_panic(expected = "called in a tokio runtime")]
    async fn blocking_in_runtime_panics() {
        block_on(async {});
    }
}
