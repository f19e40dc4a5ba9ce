//! The server in a pod: greets, then sends back what it gets, over TCP and UDP,
//! v4 and v6.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::Greeting;
use crate::netns::Netns;

/// Serves until dropped.
#[derive(Debug)]
pub struct EchoServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Serves the ports in a pod's namespace, under the pod's name.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn start(netns: &Netns, pod: &str, ports: &[u16]) -> Result<Self> {
        let sockets = netns
            .enter(|| bind(ports))
            .with_context(|| format!("serve in {pod}"))?;
        let (stop, stopped) = oneshot::channel();
        let pod = pod.to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::Builder::new().name(pod.clone()).spawn(move || {
            runtime.block_on(async {
                for (listener, socket) in sockets {
                    tokio::spawn(serve_tcp(listener, pod.clone()));
                    tokio::spawn(serve_udp(socket, pod.clone()));
                }
                let _ = stopped.await;
            });
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves the ports in the calling process's namespace until it is killed.
///
/// # Errors
/// When a port is taken.
pub fn serve_forever(pod: &str, ports: &[u16]) -> Result<()> {
    let sockets = bind(ports)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for (listener, socket) in sockets {
            tokio::spawn(serve_tcp(listener, pod.to_owned()));
            tokio::spawn(serve_udp(socket, pod.to_owned()));
        }
        std::future::pending().await
    })
}

fn bind(ports: &[u16]) -> Result<Vec<(TcpListener, UdpSocket)>> {
    let bind_one = |&port: &u16| -> Result<_> {
        // The unspecified IPv6 address takes IPv4 as well.
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let (listener, socket) = (TcpListener::bind(address)?, UdpSocket::bind(address)?);
        listener.set_nonblocking(true)?;
        socket.set_nonblocking(true)?;
        Ok((listener, socket))
    };
    ports.iter().map(bind_one).collect()
}

async fn serve_tcp(listener: TcpListener, pod: String) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((stream, client)) = listener.accept().await {
        let greeting = Greeting {
            pod: pod.clone(),
            client: client.ip().to_canonical(),
        };
        tokio::spawn(echo(stream, greeting.to_string()));
    }
}

async fn echo(mut stream: TcpStream, greeting: String) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(greeting.as_bytes()).await?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = stream.read(&mut buffer).await?;
        let Some(read @ [_, ..]) = buffer.get(..length) else {
            return Ok(());
        };
        stream.write_all(read).await?;
    }
}

async fn serve_udp(socket: UdpSocket, pod: String) {
    let Ok(socket) = tokio::net::UdpSocket::from_std(socket) else {
        return;
    };
    let mut buffer = vec![0; 64 << 10];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        let greeting = Greeting {
            pod: pod.clone(),
            client: client.ip().to_canonical(),
        };
        let mut reply = greeting.to_string().into_bytes();
        reply.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let _ = socket.send_to(&reply, client).await;
    }
}
