//! A measured program: a package in a folder of its own, and what cargo does to it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use super::source::{Shape, Source};

/// This package: its lock file fixes the versions of the programs too, and what it depends on is
/// downloaded already.
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

pub(super) struct Program {
    folder: TempDir,
}

#[derive(Clone, Copy)]
pub(super) enum Profile {
    Debug,
    Release,
}

#[derive(Clone, Copy)]
pub(super) enum Incremental {
    AsUsual,
    Off,
}

/// What a build took.
pub(super) struct Built {
    pub(super) elapsed: Duration,
    /// How many crates were compiled, not found ready.
    pub(super) crates: usize,
}

impl Program {
    /// Writes a program into a folder that lives as long as this value.
    pub(super) fn write(source: &Source, shape: Shape) -> anyhow::Result<Self> {
        let package = Path::new(PACKAGE);
        let ours = package.parent().and_then(Path::to_str).context("find rpc-parallel's folder")?;
        let folder = tempfile::tempdir().context("make a folder for a program")?;
        let root = folder.path();
        fs::create_dir(root.join("src"))?;
        fs::write(root.join("src/main.rs"), source.main(shape))?;
        fs::write(root.join("Cargo.toml"), source.manifest(ours))?;
        fs::copy(package.join("Cargo.lock"), root.join("Cargo.lock"))
            .context("copy this package's lock file")?;
        Ok(Self { folder })
    }

    /// Lists the crates that are compiled for it, itself among them. This may download them.
    pub(super) fn crates(&self) -> anyhow::Result<BTreeSet<String>> {
        let arguments = ["tree", "--edges", "normal,build", "--prefix", "none", "--no-dedupe"];
        let output =
            done(self.cargo(Incremental::AsUsual).args(arguments).args(["--format", "{p}"]))?;
        let text = String::from_utf8(output.stdout).context("read the list of crates")?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Builds it.
    pub(super) fn build(
        &self,
        profile: Profile,
        incremental: Incremental,
    ) -> anyhow::Result<Built> {
        let mut command = self.cargo(incremental);
        command.args(["build", "--offline", "--target-dir"]).arg(self.target());
        if let Profile::Release = profile {
            command.arg("--release");
        }
        let begin = Instant::now();
        let output = done(&mut command)?;
        let elapsed = begin.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        let crates = said.lines().filter(|it| it.trim_start().starts_with("Compiling ")).count();
        Ok(Built { elapsed, crates })
    }

    /// Makes cargo believe that its source has changed.
    pub(super) fn touch(&self) -> anyhow::Result<()> {
        let main = File::options().append(true).open(self.folder.path().join("src/main.rs"))?;
        Ok(main.set_modified(SystemTime::now())?)
    }

    /// Deletes what earlier builds left behind.
    pub(super) fn forget_builds(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(self.target()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Runs what was built: a program that does nothing would compile fast.
    pub(super) fn run(&self, profile: Profile) -> anyhow::Result<()> {
        let output = done(&mut Command::new(self.executable(profile)))?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said == "hello, world\n", "the program said {said:?}");
        Ok(())
    }

    /// Returns the size in bytes of what was built, without symbols.
    pub(super) fn stripped_size(&self, profile: Profile) -> anyhow::Result<u64> {
        let stripped = self.target().join("stripped");
        done(Command::new("strip").arg("-o").arg(&stripped).arg(self.executable(profile)))?;
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
            // An empty wrapper is none: a cache would answer instead of the compiler.
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "");
        match incremental {
            Incremental::AsUsual => command.env_remove("CARGO_INCREMENTAL"),
            Incremental::Off => command.env("CARGO_INCREMENTAL", "0"),
        };
        command
    }
}

/// Runs a command that must succeed.
fn done(command: &mut Command) -> anyhow::Result<Output> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}\n{}", output.status, stderr.trim_end());
    }
    Ok(output)
}
