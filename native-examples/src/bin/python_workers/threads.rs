//! The same work on threads of this process, which share its interpreter lock.

use std::thread;

use pyo3::PyResult;

use crate::python;

/// Returns the similarities of all pairs. Each thread computes an equal share of them.
pub(crate) fn similarities(pairs: &[(String, String)], threads: usize) -> PyResult<Vec<f64>> {
    let share = pairs.len().div_ceil(threads);
    thread::scope(|scope| {
        let threads: Vec<_> =
            pairs.chunks(share).map(|pairs| scope.spawn(|| of_share(pairs))).collect();
        let mut similarities = Vec::with_capacity(pairs.len());
        for thread in threads {
            similarities.extend(thread.join().expect("`of_share` does not panic")?);
        }
        Ok(similarities)
    })
}

fn of_share(pairs: &[(String, String)]) -> PyResult<Vec<f64>> {
    pairs.iter().map(|(a, b)| python::similarity(a, b)).collect()
}
