//! The identity: the commands about its file, which is of the same kind as that of the chat.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;
use swarm::settings::Identity;
use swarm::{IdentityFile, PeerId};

use crate::exit::Failure;
use crate::output::Output;

/// `setowire id`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,

    /// The file; without it `identity.json` in the data folder: $SETOWIRE_DATA_DIR, or the one for data of this user
    #[arg(long, value_name = "FILE", global = true)]
    identity: Option<PathBuf>,

    /// Write an object, {"v":1,"id":..,"file":..}
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, clap::Subcommand)]
enum Action {
    /// Make a new identity, in a file that does not exist yet, and tell its id
    New,
    /// Tell the id of the one there is; what is done without a word too
    Show,
}

/// Makes an identity, or shows the one there is: the id on standard output, never what it is made from.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let out = Output { json: options.json };
    let path = path(options.identity.as_deref())?;
    let identity = match options.action.unwrap_or(Action::Show) {
        Action::New => IdentityFile::create(&path)?,
        Action::Show => IdentityFile::read(&path)?
            .with_context(|| format!("there is no identity in {}; make one by `setowire id new`", path.display()))?,
    };
    tell(&identity, &path, out);
    let id = PeerId::from(identity.identity().peer_id());
    out.data(&id.to_string(), json!({"id": id.to_string(), "file": path.display().to_string()}));
    Ok(())
}

/// The identity in the file, which is made if there is none.
pub(crate) fn load_or_create(path: &Path, out: Output) -> anyhow::Result<Identity> {
    let found = IdentityFile::read_or_create(path)?;
    if found.is_new() {
        out.note(&format!("made the identity file {}", path.display()));
    }
    tell(&found, path, out);
    Ok(found.identity())
}

/// Who else can read it is told.
fn tell(found: &IdentityFile, path: &Path, out: Output) {
    if found.is_exposed() {
        let shown = path.display();
        out.note(&format!("others on this machine can read {shown}: run `chmod 600 {shown}`"));
    }
}

/// The file that was named, or the one in the data folder.
pub(crate) fn path(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => Ok(data_folder().context("no data folder is known; name a file by --identity")?.join("identity.json")),
    }
}

/// `$SETOWIRE_DATA_DIR`, or where programs of this system keep what they know (XDG Base Directory Specification).
fn data_folder() -> Option<PathBuf> {
    let var = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = var("SETOWIRE_DATA_DIR") {
        return Some(folder);
    }
    let base = if cfg!(windows) {
        var("APPDATA")
    } else {
        // A relative one is to be ignored.
        let xdg = var("XDG_DATA_HOME").filter(|folder| folder.is_absolute());
        xdg.or_else(|| Some(env::home_dir()?.join(".local/share")))
    };
    Some(base?.join("setowire"))
}
