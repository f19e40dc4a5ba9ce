//! `cargo xtask dist`: a static binary, and an OCI archive with it and nothing
//! else.
//!
//! The archive is the same for the same binary: no time, no name of this machine gets into it. It is built
//! offline, and tried out: the binary that was taken from the archive says its version in a directory of its own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    build,
    setup::{self, Need},
    sh,
};

/// Options of `dist`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name and tag of the image.
    #[arg(long, default_value = "torline:latest")]
    tag: String,
}

/// Runs the verb.
///
/// # Errors
/// When a compiler, `tar` or the trial fails.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let ready = setup::ready(Need::Build)?;
    build::object(&ready, None)?;
    let dist = build::target_dir().join("dist");
    fs::create_dir_all(&dist)?;
    let binary = dist.join("torline");
    fs::copy(static_agent()?, &binary).context("failed to copy the agent")?;
    let archive = dist.join("torline.oci.tar");
    pack(&binary, &archive, &args.tag)?;
    try_out(&archive)?;
    println!("{}", binary.display());
    println!("{}", archive.display());
    Ok(ExitCode::SUCCESS)
}

/// Compiles the agent so that it needs no library of the machine that it runs on.
fn static_agent() -> Result<PathBuf> {
    sh::headline("agent, static");
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let mut cargo = sh::cargo();
    cargo
        .args([
            "build",
            "--release",
            "--package",
            "lb-userspace",
            "--bin",
            "torline",
        ])
        .args(["--target", &triple])
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    sh::run(&mut cargo)?;
    Ok(build::target_dir().join(triple).join("release/torline"))
}

/// Writes the image layout of the OCI as one file.
fn pack(binary: &Path, archive: &Path, tag: &str) -> Result<()> {
    sh::headline("archive");
    let dir = archive.with_extension("d");
    recreate(&dir)?;
    let (root, blobs) = (dir.join("root"), dir.join("layout/blobs/sha256"));
    fs::create_dir_all(&root)?;
    fs::create_dir_all(&blobs)?;
    fs::copy(binary, root.join("torline"))?;
    let layer = dir.join("layer.tar");
    tar(&root, &layer)?;
    let layer_digest = digest(&layer)?;
    let layer_size = fs::metadata(&layer)?.len();
    fs::rename(&layer, blobs.join(&layer_digest))?;

    let architecture = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/torline"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
    });
    let config = blob(
        &dir,
        &blobs,
        &config,
        "application/vnd.oci.image.config.v1+json",
    )?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{layer_digest}"),
            "size": layer_size,
        }],
    });
    let mut manifest = blob(&dir, &blobs, &manifest, MANIFEST)?;
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    let layout = dir.join("layout");
    fs::write(layout.join("index.json"), index.to_string())?;
    let version = json!({"imageLayoutVersion": "1.0.0"});
    fs::write(layout.join("oci-layout"), version.to_string())?;
    tar(&layout, archive)?;
    fs::remove_dir_all(&dir)?;
    Ok(())
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Adds a document to the blobs; gives what refers to it.
fn blob(dir: &Path, blobs: &Path, document: &Value, media_type: &str) -> Result<Value> {
    let text = document.to_string();
    let file = dir.join("blob");
    fs::write(&file, &text)?;
    let digest = digest(&file)?;
    fs::rename(&file, blobs.join(&digest))?;
    Ok(json!({
        "mediaType": media_type,
        "digest": format!("sha256:{digest}"),
        "size": text.len(),
    }))
}

/// What is in a directory, the same at any time and on any machine.
fn tar(dir: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--mtime=@0", "--format=ustar"])
        .args([
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mode=go=rX,u+rwX",
        ])
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(dir)
        .arg(".");
    sh::run(&mut tar)
}

fn digest(file: &Path) -> Result<String> {
    let line = sh::output(Command::new("sha256sum").arg(file)).context("sha256sum failed")?;
    let digest = line.split_whitespace().next().unwrap_or_default();
    ensure!(digest.len() == 64, "sha256sum said {line:?}");
    Ok(digest.to_owned())
}

/// Unpacks the layer of an archive, and lets the binary say its version where there is nothing else.
fn try_out(archive: &Path) -> Result<()> {
    sh::headline("trial");
    let dir = archive.with_extension("try");
    recreate(&dir)?;
    let unpack = |archive: &Path, to: &Path| {
        fs::create_dir_all(to)?;
        let mut tar = Command::new("tar");
        tar.arg("--extract").arg("--file").arg(archive);
        sh::run(tar.arg("--directory").arg(to))
    };
    let layout = dir.join("layout");
    unpack(archive, &layout)?;
    let read = |name: &str| -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(layout.join(name))?)?)
    };
    let blob = |digest: &Value| {
        let digest = digest.as_str().unwrap_or_default();
        format!("blobs/{}", digest.replace(':', "/"))
    };
    let index = read("index.json")?;
    let manifest = read(&blob(&index["manifests"][0]["digest"]))?;
    let root = dir.join("root");
    unpack(&layout.join(blob(&manifest["layers"][0]["digest"])), &root)?;
    let mut trial = if sh::is_root() {
        let mut chroot = Command::new("chroot");
        chroot.arg(&root).arg("/torline");
        chroot
    } else {
        Command::new(root.join("torline"))
    };
    let said = sh::output(trial.arg("--version"));
    let said = said.context("the binary of the archive does not run")?;
    ensure!(said.starts_with("torline "), "it said {said:?}");
    eprintln!("{said}");
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn recreate(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(fs::create_dir_all(dir)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_binary_makes_the_same_archive() -> Result<()> {
        let dir = build::target_dir().join("dist-test");
        recreate(&dir)?;
        let binary = dir.join("torline");
        fs::write(&binary, "#!/bin/sh\necho torline 0\n")?;
        let (one, other) = (dir.join("one.oci.tar"), dir.join("other.oci.tar"));
        pack(&binary, &one, "torline:test")?;
        pack(&binary, &other, "torline:test")?;
        assert_eq!(digest(&one)?, digest(&other)?);
        fs::remove_dir_all(&dir)?;
        Ok(())
    }
}
