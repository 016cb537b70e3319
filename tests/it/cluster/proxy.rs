//! A proxy between a database and the server of its store, which fails as servers and networks do.
//!
//! It takes one request for each connection, and lets a test decide what becomes of it by its first line.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What becomes of a request.
pub enum Fault {
    /// It is passed on.
    Pass,
    /// It is passed on after this returns.
    PassAfter(Box<dyn FnOnce() + Send>),
    /// It is answered with a status, and no more.
    Answer(u16),
    /// It is answered with a status and a body.
    Say(u16, &'static str),
    /// The connection is reset after so many bytes of its body.
    CutRequest(u64),
    /// The connection is closed after so many bytes of the answer.
    CutAnswer(u64),
    /// There is no answer.
    Stall,
}

type Decide = Box<dyn FnMut(&str) -> Fault + Send>;

/// A proxy that listens until this process ends.
pub struct Proxy {
    address: SocketAddr,
    decide: Arc<Mutex<Decide>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Begins to pass on everything to a server.
    pub fn start(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Proxy {
            address,
            decide: Arc::new(Mutex::new(Box::new(|_| Fault::Pass))),
            requests: Arc::default(),
        };
        let (decide, requests) = (Arc::clone(&proxy.decide), Arc::clone(&proxy.requests));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (decide, requests) = (Arc::clone(&decide), Arc::clone(&requests));
                // Either side may close a connection.
                thread::spawn(move || serve(client?, server, &decide, &requests));
            }
        });
        proxy
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has the fate of each request, known by its first line, decided from now on.
    pub fn decide(&self, decide: impl FnMut(&str) -> Fault + Send + 'static) {
        *self.decide.lock().unwrap() = Box::new(decide);
    }

    /// The same for the first so many requests whose first line has all of these words; the others are passed
    /// on.
    pub fn fail(
        &self,
        times: usize,
        words: &'static [&'static str],
        fault: impl Fn() -> Fault + Send + 'static,
    ) {
        let mut left = times;
        self.decide(move |line| {
            if left > 0 && words.iter().all(|word| line.contains(word)) {
                left -= 1;
                fault()
            } else {
                Fault::Pass
            }
        });
    }

    /// Passes everything on again.
    pub fn mend(&self) {
        self.decide(|_| Fault::Pass);
    }

    /// Returns the first lines of the requests since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Answers in place of the server, once the request is read.
fn answer(mut client: TcpStream, length: u64, status: u16, body: &str) -> io::Result<()> {
    io::copy(&mut (&client).take(length), &mut io::sink())?;
    let length = body.len();
    write!(client, "HTTP/1.1 {status} No\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn serve(
    mut client: TcpStream,
    server: SocketAddr,
    decide: &Mutex<Decide>,
    requests: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let head = head(&mut client)?;
    let (line, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
    requests.lock().unwrap().push(line.to_owned());
    let fault = (decide.lock().unwrap())(line);
    let length = headers
        .lines()
        .filter_map(|header| header.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<u64>().ok())
        .unwrap_or(0);
    let cut = match fault {
        Fault::Stall => {
            io::copy(&mut client, &mut io::sink())?;
            return Ok(());
        }
        Fault::Answer(status) => return answer(client, length, status, ""),
        Fault::Say(status, body) => return answer(client, length, status, body),
        Fault::CutRequest(bytes) => {
            io::copy(&mut (&client).take(bytes.min(length)), &mut io::sink())?;
            // With bytes unread a closed connection is reset.
            return Ok(());
        }
        Fault::PassAfter(wait) => {
            wait();
            u64::MAX
        }
        Fault::CutAnswer(bytes) => bytes,
        Fault::Pass => u64::MAX,
    };
    let mut upstream = TcpStream::connect(server)?;
    write!(upstream, "{line}\r\nConnection: close\r\n{headers}")?;
    let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    io::copy(&mut upstream.take(cut), &mut client)?;
    client.shutdown(Shutdown::Both)
}

fn head(client: &mut TcpStream) -> io::Result<String> {
    client.set_read_timeout(Some(Duration::from_secs(60)))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    client.set_read_timeout(None)?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}
