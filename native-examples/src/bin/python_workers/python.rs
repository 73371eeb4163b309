//! The Python function `similarity` as a function of Rust.

use std::ffi::CString;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

const SOURCE: &str = include_str!("similarity.py");

/// The function, in the one interpreter of this process.
static SIMILARITY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Returns the similarity of two texts, from 0 to 1. The first call in a process starts the
/// interpreter and loads the module.
///
/// The thread holds the interpreter lock while Python computes.
pub(crate) fn similarity(a: &str, b: &str) -> PyResult<f64> {
    Python::attach(|python| {
        let similarity = SIMILARITY.get_or_try_init(python, || load(python))?;
        similarity.bind(python).call1((a, b))?.extract()
    })
}

fn load(python: Python<'_>) -> PyResult<Py<PyAny>> {
    let source = CString::new(SOURCE)?;
    let module = PyModule::from_code(python, &source, c"similarity.py", c"similarity")?;
    Ok(module.getattr("similarity")?.unbind())
}
