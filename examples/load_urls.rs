//! Loads several pages at a time and tells of each as it comes, failures among them: the second program in
//! the documentation of Python's `concurrent.futures`, in the pool of threads that a daemon has by default.
//!
//! ```sh
//! poold & cargo run --example load_urls
//! ```
//!
//! The pages come from a server of its own, so it needs no network; the last address has no host.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use poold::{Executor, as_completed};

#[expect(
    clippy::mutable_key_type,
    reason = "futures are equal as handles of one call, which no change alters"
)]
fn main() -> Result<(), Box<dyn Error>> {
    let server = serve_pages()?;
    let mut urls: Vec<String> =
        ["news", "weather", "sports", "music"].iter().map(|page| format!("http://{server}/{page}")).collect();
    urls.push("http://some-made-up-domain.invalid/".to_owned());

    let executor = Executor::connect()?;
    let mut url_of = HashMap::new();
    for url in &urls {
        url_of.insert(executor.submit::<Bytes>("load_url", (url, 60))?, url);
    }
    let futures: Vec<_> = url_of.keys().cloned().collect();
    for future in as_completed(futures, Duration::from_secs(120)) {
        let future = future?;
        let url = url_of[&future];
        match future.result(None) {
            Ok(page) => println!("{url} page is {} bytes", page.len()),
            Err(error) => println!("{url} generated an exception: {error}"),
        }
    }
    Ok(())
}

/// Starts a web server whose pages hold their own path, a thread for each visitor.
fn serve_pages() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for visitor in listener.incoming().flatten() {
            // A visitor who leaves early has no answer.
            thread::spawn(move || answer(visitor).ok());
        }
    });
    Ok(address)
}

fn answer(mut visitor: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(visitor.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split(' ').nth(1).unwrap_or("/");
    let length = path.len();
    let response = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{path}");
    visitor.write_all(response.as_bytes())
}
