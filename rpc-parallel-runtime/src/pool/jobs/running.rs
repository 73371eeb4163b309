//! The number of jobs whose processes run in this program, and the order to end them.

use std::sync::LazyLock;

use tokio::sync::watch;

/// How the jobs that run are ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::pool) enum EndOrder {
    /// Each job is dropped, as if its caller had dropped the call.
    Cancel,
    /// Each process is killed by `SIGKILL`.
    Kill,
}

/// All jobs of the program that run, from the start of a process until its exit.
pub(in crate::pool) struct RunningJobs {
    count: watch::Sender<usize>,
    order: watch::Sender<Option<EndOrder>>,
}

impl RunningJobs {
    /// Returns the jobs of this program. Only the process at the top has jobs.
    pub(in crate::pool) fn get() -> &'static Self {
        static RUNNING: LazyLock<RunningJobs> = LazyLock::new(RunningJobs::new);
        &RUNNING
    }

    fn new() -> Self {
        Self { count: watch::Sender::new(0), order: watch::Sender::new(None) }
    }

    /// Adds a job. Returns `None` if jobs are being ended.
    pub(super) fn begin(&'static self) -> Option<RunningJob> {
        // Counted before the order is read: either this job sees the order, or `ended` counts it.
        self.count.send_modify(|it| *it += 1);
        let running = RunningJob { jobs: self };
        let ordered = self.order.borrow().is_some();
        (!ordered).then_some(running)
    }

    /// Waits until no job runs.
    pub(in crate::pool) async fn ended(&self) {
        let mut count = self.count.subscribe();
        count.wait_for(|it| *it == 0).await.expect("`self` holds the sender");
    }

    /// Ends all jobs, and refuses new ones until the returned value is dropped.
    pub(in crate::pool) fn end_all(&'static self, order: EndOrder) -> Ordered {
        self.order.send_replace(Some(order));
        Ordered(self)
    }
}

/// The order to end all jobs, which dropping this takes back.
#[must_use]
pub(in crate::pool) struct Ordered(&'static RunningJobs);

impl Drop for Ordered {
    fn drop(&mut self) {
        self.0.order.send_replace(None);
    }
}

/// One job that runs. Dropping this removes the job.
pub(super) struct RunningJob {
    jobs: &'static RunningJobs,
}

impl RunningJob {
    /// Waits until all jobs are ended by an order.
    pub(super) async fn order(&self) -> EndOrder {
        let mut order = self.jobs.order.subscribe();
        let order = order.wait_for(Option::is_some).await.expect("`self.jobs` holds the sender");
        (*order).expect("it was checked")
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        self.jobs.count.send_modify(|it| *it -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_pending(future: impl Future) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    fn jobs() -> &'static RunningJobs {
        Box::leak(Box::new(RunningJobs::new()))
    }

    #[test]
    fn jobs_have_ended_when_all_are_dropped() {
        let jobs = jobs();
        let first = jobs.begin();
        let second = jobs.begin();

        drop(first);
        assert!(is_pending(jobs.ended()));
        drop(second);

        assert!(!is_pending(jobs.ended()));
    }

    #[test]
    fn order_reaches_jobs_and_refuses_new_ones_until_it_is_dropped() {
        let jobs = jobs();
        let running = jobs.begin().expect("there is no order");
        assert!(is_pending(running.order()));

        let order = jobs.end_all(EndOrder::Kill);

        assert!(!is_pending(running.order()));
        assert!(jobs.begin().is_none());
        drop((order, running));
        assert!(!is_pending(jobs.ended()));
        assert!(jobs.begin().is_some());
    }
}
