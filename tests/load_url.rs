//! `load_url` in the pools that a daemon has by default, against servers on this machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::{Daemon, PATIENCE, assert_error, parts, text};

/// What has no address anywhere (RFC 6761).
const NO_HOST: &str = "http://some-made-up-domain.invalid/";

/// The threads of the default pool `io`.
const THREADS: usize = 32;

/// A web server that answers each request with what `page` makes of its path.
fn serve(page: impl Fn(&str) -> String + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let page = Arc::new(page);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let page = Arc::clone(&page);
            thread::spawn(move || answer(stream.unwrap(), &*page));
        }
    });
    address
}

/// Answers requests until the other end closes.
fn answer(mut stream: TcpStream, page: &impl Fn(&str) -> String) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    while let Some(request) = lines.next() {
        lines.by_ref().take_while(|line| !line.is_empty()).for_each(drop);
        let body = page(request.split(' ').nth(1).unwrap());
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        // In one piece: a second one would wait until the first is acknowledged.
        if stream.write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}

/// A daemon with the default pools, and a proxy for none of its functions.
fn start() -> Daemon {
    start_with("")
}

fn start_with(config: &str) -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("poold.toml"), config).unwrap();
    let mut daemon = Daemon::launch_in(dir, |command| {
        command.env("NO_PROXY", "*");
    });
    daemon.wait_until_ready();
    daemon
}

#[test]
fn map_of_load_url_has_as_many_requests_at_one_time_as_there_are_threads() {
    // How many requests there are, and how many there were at one time: the first ones wait for each other.
    let crowd = Arc::new((Mutex::new((0, 0)), Condvar::new()));
    let server = {
        let crowd = Arc::clone(&crowd);
        serve(move |path| {
            let (counts, changed) = &*crowd;
            let mut now = counts.lock().unwrap();
            now.0 += 1;
            now.1 = now.1.max(now.0);
            changed.notify_all();
            let (mut now, waited) =
                changed.wait_timeout_while(now, PATIENCE, |(_, most)| *most < THREADS).unwrap();
            now.0 -= 1;
            if waited.timed_out() { "alone".to_owned() } else { path.to_owned() }
        })
    };
    let daemon = start();
    let urls: String = (0..2 * THREADS).map(|number| format!("http://{server}/{number}\n")).collect();
    let pages: String = (0..2 * THREADS).map(|number| format!("/{number}\n")).collect();
    let output = daemon.run_with_input(&["map", "load_url"], &urls);
    assert_eq!(parts(&output), (0, pages, String::new()));
    assert_eq!(crowd.0.lock().unwrap().1, THREADS, "more at one time than there are threads");
}

#[test]
fn map_as_completed_tells_of_pages_and_of_failures() {
    let server = serve(|path| if path == "/lines" { "one\ntwo\n".to_owned() } else { path.to_owned() });
    let daemon = start();
    let urls = format!("http://{server}/page\n{NO_HOST}\nbanana\nhttp://{server}/lines\n");
    let output = daemon.run_with_input(&["map", "load_url", "--as-completed"], &urls);
    let (code, stdout, stderr) = parts(&output);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(code, 1);
    assert_eq!(sorted(&stdout), ["1\t/page", "2\t", "3\t", r#"4	"one\ntwo\n""#]);
    let errors = sorted(&stderr);
    assert_eq!(errors.len(), 2, "{stderr}");
    assert!(errors[0].starts_with(&format!("line 2: failed: cannot load {NO_HOST}: ")), "{stderr}");
    assert!(errors[1].starts_with("line 3: failed: load_url takes URL: Url"), "{stderr}");
}

#[test]
fn submit_of_load_url_prints_the_page_as_it_is() {
    let server = serve(|_| "one\ntwo".to_owned());
    let daemon = start();
    let url = format!("http://{server}/");
    assert_eq!(parts(&daemon.run(&["submit", "load_url", &url])), (0, "one\ntwo".to_owned(), String::new()));
    assert_eq!(daemon.run(&["submit", "load_url", &url, "30"]).status.code(), Some(0));
    assert_error(&daemon.run(&["submit", "load_url"]), 1, &["1 to 2 arguments"]);
}

#[test]
fn default_pools_leave_each_other_their_functions() {
    let daemon = start();
    assert_error(&daemon.run(&["submit", "--pool", "cpu", "load_url", NO_HOST]), 4, &["cpu", "load_url"]);
    assert_error(&daemon.run(&["submit", "--pool", "io", "is_prime", "7"]), 4, &["io", "is_prime"]);
    for function in daemon.json(&["functions"]).as_array().unwrap() {
        let pool = if function["name"] == "load_url" { "io" } else { "cpu" };
        assert_eq!(function["pools"], serde_json::json!([pool]), "{function}");
    }
    let workers = daemon.workers();
    let io = workers.iter().find(|worker| worker["pool"] == "io").unwrap();
    assert_eq!(io["capacity"], THREADS);
}

/// Examples are built with the tests, beside them.
#[test]
fn example_tells_of_each_page_as_it_comes() {
    let daemon = start();
    let example = std::env::current_exe().unwrap().with_file_name("../examples/load_urls");
    let output = Command::new(&example).env("POOLD_SOCKET", &daemon.socket).output();
    let output =
        output.unwrap_or_else(|error| panic!("{}: {error}; cargo build --examples", example.display()));
    let (code, stdout, stderr) = parts(&output);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout.lines().count(), 5, "{stdout}");
    for page in ["news page is 5 bytes", "weather page is 8", "sports page is 7", "music page is 6"] {
        assert!(stdout.contains(page), "`{page}` is not in:\n{stdout}");
    }
    let failure = format!("{NO_HOST} generated an exception: ");
    assert!(stdout.lines().any(|line| line.starts_with(&failure)), "{stdout}");
}

#[test]
#[ignore = "takes 20 s, to measure: cargo test --release --test load_url -- --ignored --nocapture"]
fn threads_load_slow_pages_many_times_faster_than_one_at_a_time() {
    let server = serve(|path| {
        thread::sleep(Duration::from_millis(100));
        path.to_owned()
    });
    let urls: String = (0..200).map(|number| format!("http://{server}/{number}\n")).collect();
    let load = |threads: usize| {
        let daemon = start_with(&format!("[pool.io]\nworkers = 1\nthreads = {threads}\n"));
        let begun = Instant::now();
        let output = daemon.run_with_input(&["map", "load_url"], &urls);
        let taken = begun.elapsed();
        assert_eq!(text(&output.stdout).lines().filter(|line| line.starts_with('/')).count(), 200);
        taken
    };
    let (alone, together) = (load(1), load(THREADS));
    let ratio = alone.as_secs_f64() / together.as_secs_f64();
    println!(
        "200 pages of 100 ms: {alone:?} one at a time, {together:?} on {THREADS} threads: {ratio:.1} times"
    );
}
