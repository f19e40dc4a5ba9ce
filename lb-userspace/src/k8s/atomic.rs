//! Files that are replaced in one step.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Puts `text` in the place of a file, which need not be there; its directory is made if need be. Readers
/// see the old file or the new one, never a part, and a crash leaves one of them.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    // One name per process, should two of them write at once.
    let temporary = directory.join(format!(".{file}.{}", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
