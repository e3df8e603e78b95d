//! What the program is compared with: a handler that answers a trigger's bytes and does nothing.

use std::process::Command;

use poem::http::header;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Response, Route, Server, get, handler};

use crate::driver::BODY;
use crate::program::Process;

/// The hidden subcommand by which the benchmark runs itself as that server.
pub(crate) const SUBCOMMAND: &str = "bare-server";

/// Starts the server as a process of its own, as the program is one.
pub(crate) fn start() -> Process {
    let this = std::env::current_exe().expect("the path of this benchmark");
    Process::start(Command::new(this).arg(SUBCOMMAND)).expect("it serves")
}

/// Serves until it is killed.
pub(crate) fn serve() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let served = runtime.block_on(async {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await?;
        let address = acceptor.local_addr().remove(0);
        let address = *address.as_socket_addr().expect("a TCP address");
        println!("the bare server serves on http://{address}/");
        let site = Route::new().at("/:id", get(answer));
        Server::new_with_acceptor(acceptor).run(site).await
    });
    served.expect("it serves");
}

#[handler]
fn answer() -> Response {
    Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CACHE_CONTROL, "no-store")
        .body(BODY)
}
