//! `torline install-cmdlets`: links by the cmdlets' names, so that they can be
//! typed as the device's documentation prints them.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{cmdlet, print};

/// Arguments of `torline install-cmdlets`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  torline install-cmdlets /usr/local/bin
      After that, Get-HcsExternalVirtualSwitch and the others are commands.")]
pub(super) struct Install {
    /// Where the links go; a directory of PATH.
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
}

/// Makes the links in a directory, to the program that runs. A link that is there is made anew; what is no
/// link stays.
pub(super) fn install(directory: &Path) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("failed to find the program itself")?;
    link_all(&program, directory)?;
    let made: String = cmdlet::names()
        .map(|name| format!("{}\n", directory.join(name).display()))
        .collect();
    print(&made)
}

fn link_all(program: &Path, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("failed to make {}", directory.display()))?;
    for name in cmdlet::names() {
        let path = directory.join(name);
        let linked = match fs::symlink_metadata(&path) {
            Ok(found) if !found.is_symlink() => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it is there and is no link",
            )),
            Ok(_) => fs::remove_file(&path).and_then(|()| symlink(program, &path)),
            Err(_) => symlink(program, &path),
        };
        linked.with_context(|| format!("failed to link {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_made_anew_and_files_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        for program in ["/usr/bin/old", "/usr/bin/torline"] {
            link_all(Path::new(program), &bin).unwrap();
            let link = fs::read_link(bin.join("Get-HcsBGPPeers")).unwrap();
            assert_eq!(link, Path::new(program));
        }
        assert_eq!(fs::read_dir(&bin).unwrap().count(), 5);

        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("Set-HcsBGPPeer"), "mine").unwrap();
        let error = link_all(Path::new("/usr/bin/torline"), &other).unwrap_err();
        assert!(format!("{error:#}").contains("is no link"), "{error:#}");
        assert_eq!(
            fs::read_to_string(other.join("Set-HcsBGPPeer")).unwrap(),
            "mine"
        );
    }
}
