//! The published Python node in a virtual environment of its own.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use crate::report::progress;
use crate::tools::PYTHON;
use crate::workspace;

/// The package, at the version everything here was measured with.
const PACKAGE: &str = "py-setowire";
const VERSION: &str = "0.1.0";

/// Nodes of the BitTorrent Mainline DHT that were made elsewhere, at the version everything here was shown with.
const LIBTORRENT: &str = "libtorrent";
const LIBTORRENT_VERSION: &str = "2.1.1";

/// The package wants this one.
const OLDEST: (u32, u32) = (3, 11);

/// The published node, installed.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    /// The interpreter of the virtual environment.
    pub(crate) python: PathBuf,
    /// The folder with its `swarm.py`.
    pub(crate) library: PathBuf,
}

/// Why there is no reference: the machine lacks something, or installing it went wrong.
#[derive(Debug)]
pub(crate) enum Unavailable {
    /// A row "not run".
    Missing(String),
    /// A failure.
    Broken(anyhow::Error),
}

/// Whether this machine's Python can make virtual environments: its version, or what to do.
///
/// # Errors
/// The sentence that says what is missing and how to get it.
pub(crate) fn usable(sh: &Shell) -> Result<String, String> {
    if PYTHON.path().is_none() {
        return Err(PYTHON.missing());
    }
    let script = "import sys; print('%d.%d' % sys.version_info[:2])";
    let version = cmd!(sh, "python3 -c {script}").quiet().read().map_err(|error| format!("python3 fails: {error}"))?;
    let parsed = version.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    if parsed.is_none_or(|found: (u32, u32)| found < OLDEST) {
        let (major, minor) = OLDEST;
        return Err(format!("python3 is {version} and {PACKAGE} wants {major}.{minor}: {}", PYTHON.how_to_get));
    }
    if cmd!(sh, "python3 -c 'import venv, ensurepip'").quiet().ignore_stderr().run().is_err() {
        return Err("python3 has no venv module: apt-get install python3-venv".to_owned());
    }
    Ok(version)
}

/// The published node, installed on first use into `target/interop/venv` and used again as long as it is right.
///
/// # Errors
/// See [`Unavailable`].
pub(crate) fn reference(sh: &Shell) -> Result<Reference, Unavailable> {
    usable(sh).map_err(Unavailable::Missing)?;
    let venv = workspace::root().join("target/interop/venv");
    let python = venv.join("bin/python");
    if let Some(library) = installed(sh, &python) {
        return Ok(Reference { python, library });
    }
    install(sh, &venv, &python).map_err(Unavailable::Broken)?;
    let library = installed(sh, &python)
        .with_context(|| format!("pip installed {PACKAGE}, but {} does not find it", python.display()))
        .map_err(Unavailable::Broken)?;
    Ok(Reference { python, library })
}

/// Installs libtorrent beside the published node, unless it is there.
///
/// # Errors
/// What keeps it from being there: it has compiled packages, and not for every machine.
pub(crate) fn libtorrent(sh: &Shell, reference: &Reference) -> Result<(), String> {
    let python = &reference.python;
    let script = format!(
        "from importlib.metadata import version as v; import libtorrent; assert v('{LIBTORRENT}') == '{LIBTORRENT_VERSION}'"
    );
    let is_there = || cmd!(sh, "{python} -c {script}").quiet().ignore_stdout().ignore_stderr().run().is_ok();
    if is_there() {
        return Ok(());
    }
    progress(&format!("installing {LIBTORRENT} {LIBTORRENT_VERSION}"));
    let requirement = format!("{LIBTORRENT}=={LIBTORRENT_VERSION}");
    let installed =
        cmd!(sh, "{python} -m pip install --quiet --disable-pip-version-check --only-binary :all: {requirement}")
            .quiet()
            .ignore_stderr()
            .run();
    if installed.is_ok() && is_there() {
        return Ok(());
    }
    Err(format!("pip has no {requirement} for this machine, or it does not load"))
}

fn install(sh: &Shell, venv: &Path, python: &Path) -> anyhow::Result<()> {
    progress(&format!("installing {PACKAGE} {VERSION} into {}", venv.display()));
    sh.remove_path(venv)?;
    sh.create_dir(venv)?;
    cmd!(sh, "python3 -m venv {venv}").quiet().run()?;
    let requirement = format!("{PACKAGE}=={VERSION}");
    cmd!(sh, "{python} -m pip install --quiet --disable-pip-version-check {requirement}")
        .quiet()
        .run()
        .context("pip could not install the reference; is the package index reachable?")
}

/// The folder it is installed in, if that is the right version.
fn installed(sh: &Shell, python: &Path) -> Option<PathBuf> {
    if !python.is_file() {
        return None;
    }
    let script = format!(
        "from importlib.metadata import distribution as d; p = d('{PACKAGE}'); \
         print(p.version == '{VERSION}' and p.locate_file('') or '')"
    );
    let folder = cmd!(sh, "{python} -c {script}").quiet().ignore_stderr().read().ok()?;
    let folder = PathBuf::from(folder.trim());
    folder.join("swarm.py").is_file().then_some(folder)
}
