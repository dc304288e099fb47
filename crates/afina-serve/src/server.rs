//! Running the routes on a listener, for a program without an async runtime of its own.

use std::{io, net::TcpListener, time::Duration};

use axum::{Router, serve::ListenerExt};
use tokio::sync::oneshot;

/// Stops a server: by [`StopHandle::stop`], or by being dropped.
#[derive(Debug)]
#[must_use = "dropping the handle stops the server"]
pub struct StopHandle {
    sender: oneshot::Sender<()>,
}

impl StopHandle {
    /// Tells the server to take no more requests.
    pub fn stop(self) {
        // The server may have ended already, which is just as well.
        let _ = self.sender.send(());
    }
}

/// A handle, and the future for [`serve`] that it completes.
pub fn stop_signal() -> (StopHandle, impl Future<Output = ()> + Send + 'static) {
    let (sender, receiver) = oneshot::channel();
    (StopHandle { sender }, async move {
        // An error means that the handle was dropped, which stops the server too.
        let _ = receiver.await;
    })
}

/// Serves until `shutdown` completes, then lets running answers end for up to `drain` before it cuts them off.
///
/// Blocks the calling thread, which does all the HTTP work; the engine has its own.
pub fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        // A token is a small packet that must not wait for the next one.
        let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let (draining, drained) = oneshot::channel::<()>();
        let server = axum::serve(listener, router).with_graceful_shutdown(async move {
            shutdown.await;
            drop(draining);
        });
        let deadline = async move {
            let _ = drained.await;
            tokio::time::sleep(drain).await;
        };
        tokio::select! {
            result = server => result,
            () = deadline => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, time::Duration};

    use serde_json::json;

    use crate::testing::{Script, Server, chat};

    #[test]
    fn a_stopped_server_finishes_what_it_began_and_takes_nothing_more() {
        let (script, gate) = Script::new(["uno", "dos"]).gated();
        let mut server = Server::start(script);
        let mut client = server.send("/v1/chat/completions", &chat(json!({"stream": true})));
        gate.step();
        client.read_until("uno");
        let thread = server.stop();
        gate.open();
        assert!(client.read().body.ends_with("data: [DONE]\n\n"));
        thread.join().unwrap().unwrap();
        assert!(TcpStream::connect(server.address).is_err());
    }

    #[test]
    fn after_the_drain_time_running_answers_are_cut_off() {
        let (script, gate) = Script::new(["uno", "dos", "tres", "cuatro"]).gated();
        let mut server = Server::start_draining(script, Duration::ZERO);
        let mut client = server.send("/v1/chat/completions", &chat(json!({"stream": true})));
        gate.step();
        client.read_until("uno");
        server.stop().join().unwrap().unwrap();
        gate.step_until_broken_off();
    }

    #[test]
    fn the_engine_is_dropped_when_the_server_has_ended() {
        let (script, dropped) = Script::new([]).watched();
        let mut server = Server::start(script);
        assert_eq!(server.get("/health").status, 200);
        server.stop().join().unwrap().unwrap();
        assert!(dropped.recv().is_err());
    }
}
