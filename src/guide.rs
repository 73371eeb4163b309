//! The programs of README.md and of the guide, as doctests: one module for each page with programs.

macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {$(
        #[doc = include_str!(concat!("../", $path))]
        mod $name {}
    )*};
}

pages! {
    readme: "README.md",
    getting_started: "docs/guide/src/getting-started.md",
    threads_or_processes: "docs/guide/src/threads-or-processes.md",
    workers_and_calls: "docs/guide/src/workers-and-calls.md",
    errors: "docs/guide/src/errors.md",
    state: "docs/guide/src/state.md",
    streams: "docs/guide/src/streams.md",
    life_and_failure: "docs/guide/src/life-and-failure.md",
    settings: "docs/guide/src/settings.md",
    starting_workers: "docs/guide/src/starting-workers.md",
    output: "docs/guide/src/output.md",
    other_programs: "docs/guide/src/other-programs.md",
    tests_and_benchmarks: "docs/guide/src/tests-and-benchmarks.md",
    own_main: "docs/guide/src/own-main.md",
    deployment: "docs/guide/src/deployment.md",
    trust_model: "docs/guide/src/trust-model.md",
    coming_from: "docs/guide/src/coming-from.md",
    limits: "docs/guide/src/limits.md",
}

#[cfg(feature = "pool")]
pages! {
    all_cores: "docs/guide/src/all-cores.md",
    crash_or_hang: "docs/guide/src/crash-or-hang.md",
    progress_and_verdicts: "docs/guide/src/progress-and-verdicts.md",
    jobs: "docs/guide/src/jobs.md",
}

#[cfg(feature = "tracing")]
pages! {
    logs_and_stats: "docs/guide/src/logs-and-stats.md",
}
