//! Edits of a directory: a file for each object, named after it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{EditError, Planned, object, title, without_nulls};
use crate::k8s::atomic;
use crate::model::virtual_switch::Edit;

/// How files begin that may be changed again.
const HEADER: &str = "# Written by torline, which may change it or take it away.\n";

/// Changes a directory of YAML files.
#[derive(Debug)]
pub struct DirectoryEditor {
    path: PathBuf,
}

impl DirectoryEditor {
    /// Of this directory.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Whether the object's file is ours, or yet to be made.
    pub(super) fn check(&self, Planned { edit, exists }: Planned<'_>) -> Result<(), EditError> {
        let path = self.file(edit);
        match fs::read(&path) {
            Ok(text) if text.starts_with(HEADER.as_bytes()) => Ok(()),
            Ok(_) => Err(EditError::Foreign(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match exists {
                true => Err(EditError::Elsewhere(title(edit))),
                false => Ok(()),
            },
            Err(source) => Err(EditError::File { path, source }),
        }
    }

    pub(super) fn apply(&self, edit: &Edit) -> Result<(), EditError> {
        let path = self.file(edit);
        let done = match object(edit).map(without_nulls) {
            Some(object) => {
                let text = serde_saphyr::to_string(&object)
                    .map_err(|source| EditError::Yaml(title(edit), source))?;
                atomic::replace(&path, &format!("{HEADER}{text}"))
            }
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        done.map_err(|source| EditError::File { path, source })
    }

    fn file(&self, edit: &Edit) -> PathBuf {
        let (_, name) = edit.object();
        self.path.join(format!("{name}.yaml"))
    }
}
