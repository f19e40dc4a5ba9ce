//! HTTP over a unix socket, both ends: the admin API's listener and its client.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::http::request::Builder;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// Nobody listens.
    #[error("failed to connect")]
    Connect(#[source] io::Error),
    /// The exchange broke.
    #[error("the exchange broke")]
    Exchange(#[source] hyper::Error),
    /// The request could not be built.
    #[error("the request is malformed")]
    Request(#[source] hyper::http::Error),
    /// The agent refused.
    #[error("the agent answered {0}")]
    Status(StatusCode),
}

/// Why the socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another agent answers there.
    #[error(
        "another agent listens on {0}; one node has one agent (a second one for tests needs its own \
         --socket)"
    )]
    InUse(PathBuf),
    /// Something that is no socket lies there.
    #[error("{0} exists and is no socket; remove it or choose another --socket")]
    NotASocket(PathBuf),
    /// The file system refused.
    #[error("failed to listen on {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Fetches a path.
///
/// # Errors
/// Nobody listens, or the answer is not 200.
pub async fn get(socket: &Path, path: &str) -> Result<Bytes, GetError> {
    let Answer(body) = open(socket, path).await?;
    read(body).await
}

/// An answer that is read as it comes.
#[derive(Debug)]
pub struct Answer(Incoming);

impl Answer {
    /// The next part of it; none at its end.
    ///
    /// # Errors
    /// The exchange broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, GetError> {
        while let Some(frame) = self.0.frame().await {
            if let Ok(data) = frame.map_err(GetError::Exchange)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// Begins to fetch a path.
///
/// # Errors
/// Nobody listens, or the answer is not 200.
pub async fn open(socket: &Path, path: &str) -> Result<Answer, GetError> {
    let (status, body) = exchange(socket, Request::get(path), Bytes::new()).await?;
    if status != StatusCode::OK {
        return Err(GetError::Status(status));
    }
    Ok(Answer(body))
}

/// Sends JSON to a path; returns the answer, and whether it is 200 or 409.
///
/// # Errors
/// Nobody listens, or the answer is neither.
pub async fn post(socket: &Path, path: &str, json: Bytes) -> Result<Posted, GetError> {
    let request = Request::post(path).header("content-type", "application/json");
    match exchange(socket, request, json).await? {
        (StatusCode::OK, body) => Ok(Posted::Done(read(body).await?)),
        (StatusCode::CONFLICT, body) => Ok(Posted::Refused(read(body).await?)),
        (status, _) => Err(GetError::Status(status)),
    }
}

/// What became of something that was posted.
#[derive(Debug)]
pub enum Posted {
    /// It was done.
    Done(Bytes),
    /// It was refused.
    Refused(Bytes),
}

async fn read(body: Incoming) -> Result<Bytes, GetError> {
    let body = body.collect().await.map_err(GetError::Exchange)?;
    Ok(body.to_bytes())
}

async fn exchange(
    socket: &Path,
    request: Builder,
    body: Bytes,
) -> Result<(StatusCode, Incoming), GetError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(GetError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(GetError::Exchange)?;
    tokio::spawn(connection);
    let request = request
        .header("host", "torline")
        .body(Full::new(body))
        .map_err(GetError::Request)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(GetError::Exchange)?;
    Ok((response.status(), response.into_body()))
}

/// A listening socket that only its owner may connect to; dropping it removes it.
#[derive(Debug)]
pub struct Listener {
    inner: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens, in a directory made if need be. A socket that nobody answers on is replaced.
    ///
    /// # Errors
    /// Another agent answers there, or the path cannot be used.
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(ListenError::NotASocket(path.to_owned()));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(ListenError::InUse(path.to_owned()));
            }
            Ok(_) => fs::remove_file(path).map_err(failed)?,
            Err(_) => {}
        }
        let inner = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self {
            inner,
            path: path.to_owned(),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Gone already, or in a directory that is: either way nobody can connect.
        let _ = fs::remove_file(&self.path);
    }
}

impl axum::serve::Listener for Listener {
    type Io = UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        axum::serve::Listener::accept(&mut self.inner).await
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}
