//! The programs and examples of the workspace, as the tests build them.

use std::path::PathBuf;

use xshell::{Cmd, Shell, cmd};

use crate::report::Report;
use crate::{steps, workspace};

/// Where programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Those that [`build`] makes.
    ///
    /// # Errors
    /// When cargo does not say where it builds.
    pub(crate) fn of_tests(sh: &Shell) -> anyhow::Result<Self> {
        Ok(Self { folder: workspace::target(sh)?.join("debug") })
    }

    /// Those of the profile `release`.
    ///
    /// # Errors
    /// As for [`Self::of_tests`].
    pub(crate) fn shipped(sh: &Shell) -> anyhow::Result<Self> {
        Ok(Self { folder: workspace::target(sh)?.join("release") })
    }

    /// A program.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An example.
    pub(crate) fn example(&self, name: &str) -> PathBuf {
        self.folder.join("examples").join(name)
    }
}

/// Builds all programs and examples, which is little work where the tests were built. The libraries below a program have
/// the features that all who are built with it want, so a selection of fewer packages would compile them once more.
pub(crate) fn build(sh: &Shell) -> Cmd<'_> {
    cmd!(sh, "cargo build --workspace --all-features --bins --examples")
}

/// The same, with a row of `report`; `None` when it failed.
///
/// # Errors
/// When the report cannot be written.
pub(crate) fn append(report: &mut Report, sh: &Shell) -> anyhow::Result<Option<Programs>> {
    let built = steps::run(report, "programs and examples compile", &[], build(sh))?;
    if built { Programs::of_tests(sh).map(Some) } else { Ok(None) }
}
