//! A measured program: a package in a temporary folder, and its builds.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

/// The folder of this package. Its lock file fixes the versions of the programs, and cargo has
/// downloaded its dependencies.
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

pub(crate) struct Program {
    folder: TempDir,
}

#[derive(Clone, Copy)]
pub(crate) enum Profile {
    Debug,
    Release,
}

#[derive(Clone, Copy)]
pub(crate) enum Incremental {
    Default,
    Off,
}

/// The result of a build.
pub(crate) struct BuildResult {
    pub(crate) elapsed: Duration,
    /// The number of crates that cargo compiled.
    pub(crate) crates: usize,
}

impl Program {
    /// Writes a program into a temporary folder, which is removed when the value is dropped.
    /// `{{rpc-parallel}}` in the manifest is replaced by the path of rpc-parallel.
    pub(crate) fn write(main: &str, manifest: &str) -> anyhow::Result<Self> {
        let package = Path::new(PACKAGE);
        let rpc_parallel = package
            .parent()
            .and_then(Path::to_str)
            .context("expected a UTF-8 path of the folder above")?;
        let folder = tempfile::tempdir().context("failed to create a folder for a program")?;
        let root = folder.path();
        fs::create_dir(root.join("src"))?;
        fs::write(root.join("src/main.rs"), main)?;
        fs::write(root.join("Cargo.toml"), manifest.replace("{{rpc-parallel}}", rpc_parallel))?;
        fs::copy(package.join("Cargo.lock"), root.join("Cargo.lock"))
            .context("failed to copy the lock file of this package")?;
        Ok(Self { folder })
    }

    /// Lists the crates that the program needs, including itself. Downloads them if necessary.
    pub(crate) fn crates(&self) -> anyhow::Result<BTreeSet<String>> {
        let arguments = ["tree", "--edges", "normal,build", "--prefix", "none", "--no-dedupe"];
        let output = run_command(
            self.cargo(Incremental::Default).args(arguments).args(["--format", "{p}"]),
        )?;
        let text = String::from_utf8(output.stdout).context("expected a UTF-8 list of crates")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Builds the program.
    pub(crate) fn build(
        &self,
        profile: Profile,
        incremental: Incremental,
    ) -> anyhow::Result<BuildResult> {
        let mut command = self.cargo(incremental);
        command.args(["build", "--offline", "--target-dir"]).arg(self.target());
        if let Profile::Release = profile {
            command.arg("--release");
        }
        let begin = Instant::now();
        let output = run_command(&mut command)?;
        let elapsed = begin.elapsed();
        let output_text = String::from_utf8_lossy(&output.stderr);
        let crates =
            output_text.lines().filter(|it| it.trim_start().starts_with("Compiling ")).count();
        Ok(BuildResult { elapsed, crates })
    }

    /// Updates the modification time of the source, so that cargo compiles it again.
    pub(crate) fn touch(&self) -> anyhow::Result<()> {
        let main = File::options().append(true).open(self.folder.path().join("src/main.rs"))?;
        Ok(main.set_modified(SystemTime::now())?)
    }

    /// Removes the artifacts of earlier builds.
    pub(crate) fn remove_artifacts(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(self.target()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Runs the program, checks its output, and returns the time from its start to its end.
    pub(crate) fn run(&self, profile: Profile, expected: &str) -> anyhow::Result<Duration> {
        let mut command = Command::new(self.executable(profile));
        let begin = Instant::now();
        let output = run_command(&mut command)?;
        let elapsed = begin.elapsed();
        let found = String::from_utf8_lossy(&output.stdout);
        ensure!(found == expected, "expected the output {expected:?}, found {found:?}");
        Ok(elapsed)
    }

    /// Returns the size of the executable without symbols, in bytes.
    pub(crate) fn stripped_size(&self, profile: Profile) -> anyhow::Result<u64> {
        let stripped = self.target().join("stripped");
        run_command(Command::new("strip").arg("-o").arg(&stripped).arg(self.executable(profile)))?;
        Ok(fs::metadata(stripped)?.len())
    }

    fn executable(&self, profile: Profile) -> PathBuf {
        let folder = match profile {
            Profile::Debug => "debug",
            Profile::Release => "release",
        };
        self.target().join(folder).join("program")
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    fn cargo(&self, incremental: Incremental) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command
            .current_dir(self.folder.path())
            .env_remove("CARGO_BUILD_TARGET")
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_TERM_QUIET", "false")
            // An empty value disables a wrapper, which could answer from a cache.
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "");
        match incremental {
            Incremental::Default => command.env_remove("CARGO_INCREMENTAL"),
            Incremental::Off => command.env("CARGO_INCREMENTAL", "0"),
        };
        command
    }
}

/// Runs a command.
///
/// # Errors
///
/// Returns an error if its exit status is not 0.
fn run_command(command: &mut Command) -> anyhow::Result<Output> {
    let output = command.output().with_context(|| format!("failed to start {command:?}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} exited: {}\n{}", output.status, stderr.trim_end());
    }
    Ok(output)
}
