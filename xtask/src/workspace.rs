//! What `cargo metadata` and git know about the repository.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use xshell::{Shell, cmd};

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// A shell in the repository's folder.
///
/// # Errors
/// When the current folder is gone.
pub(crate) fn shell() -> anyhow::Result<Shell> {
    let sh = Shell::new()?;
    sh.change_dir(root());
    Ok(sh)
}

/// Where cargo puts what it builds.
///
/// # Errors
/// When it does not say so.
pub(crate) fn target(sh: &Shell) -> anyhow::Result<PathBuf> {
    let text = cmd!(sh, "cargo metadata --no-deps --format-version 1").quiet().read()?;
    let metadata: Value = serde_json::from_str(&text).context("`cargo metadata` printed no JSON")?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("cargo names no target directory")
}

/// A package of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// Name as published, such as `setowire-peer`.
    pub(crate) name: String,
    pub(crate) version: String,
    /// Folder of the manifest.
    pub(crate) folder: PathBuf,
    /// False for what is never published.
    pub(crate) published: bool,
    /// Names of its features, sorted, without `default`.
    pub(crate) features: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
    targets: Vec<(String, String)>,
}

/// A line under one of the dependency tables of a package.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `normal`, `dev` or `build`.
    pub(crate) kind: String,
    /// The version requirement; `*` when there is none.
    pub(crate) requirement: String,
    /// Whether it is given by a path: one of ours.
    pub(crate) internal: bool,
}

impl Package {
    /// The name without `setowire-`: the name of its folder.
    pub(crate) fn short(&self) -> &str {
        self.name.strip_prefix("setowire-").unwrap_or(&self.name)
    }

    /// Names of the targets of this kind (`lib`, `bench`, `example`, ..).
    pub(crate) fn targets(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.targets.iter().filter(move |(k, _)| k == kind).map(|(_, name)| name.as_str())
    }

    /// Whether others can depend on it.
    pub(crate) fn is_library(&self) -> bool {
        self.targets("lib").next().is_some()
    }
}

/// The packages of the manifest `manifest` (relative to the root), by name.
///
/// # Errors
/// When a manifest does not parse.
pub(crate) fn packages(sh: &Shell, manifest: &str) -> anyhow::Result<Vec<Package>> {
    let text = cmd!(sh, "cargo metadata --no-deps --format-version 1 --manifest-path {manifest}").quiet().read()?;
    let metadata: Value = serde_json::from_str(&text).context("`cargo metadata` printed no JSON")?;
    let mut packages: Vec<Package> = array(&metadata["packages"]).iter().map(package).collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

fn package(value: &Value) -> Package {
    let mut features: Vec<String> =
        value["features"].as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    features.retain(|feature| feature != "default");
    Package {
        name: string(&value["name"]),
        version: string(&value["version"]),
        folder: Path::new(&string(&value["manifest_path"])).parent().map(Path::to_path_buf).unwrap_or_default(),
        // `publish = false` is an empty list of registries.
        published: value["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
        features,
        dependencies: array(&value["dependencies"]).iter().map(dependency).collect(),
        targets: array(&value["targets"])
            .iter()
            .flat_map(|target| array(&target["kind"]).iter().map(|kind| (string(kind), string(&target["name"]))))
            .collect(),
    }
}

fn dependency(value: &Value) -> Dependency {
    Dependency {
        name: string(&value["name"]),
        kind: value["kind"].as_str().unwrap_or("normal").to_owned(),
        requirement: string(&value["req"]),
        internal: value["path"].is_string(),
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The files git knows and that are there, relative to the root.
///
/// # Errors
/// Outside of a git repository.
pub(crate) fn tracked_files(sh: &Shell) -> anyhow::Result<Vec<String>> {
    let list = cmd!(sh, "git ls-files -z").quiet().read().context("the list of files comes from git")?;
    let root = root();
    Ok(list.split('\0').filter(|path| !path.is_empty() && root.join(path).is_file()).map(str::to_owned).collect())
}
