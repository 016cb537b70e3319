//! Stores behind a network, on real servers, and on networks and servers that fail: what a directory
//! promises, they promise as well, or they are refused.

use std::fs;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::thread::scope;

use crate::cluster::database::{Database, TARGET, query, wait_until};
use crate::cluster::proxy::{Fault, Proxy};
use crate::cluster::servers::{BUCKET, KEY_ID, SECRET_KEY, Server, free_address};
use crate::cluster::{Cluster, Store};

static S3S: LazyLock<Server> = LazyLock::new(Server::s3s);

/// A server of S3 or WebDAV as a pair of clusters knows it, by their environment.
pub struct Pair {
    pub source_server: Cluster,
    pub destination_server: Cluster,
    pub source: Database,
    pub destination: Database,
}

impl Pair {
    /// Makes two databases that have a prefix of a bucket for themselves.
    pub fn on_s3(server: SocketAddr, prefix: &str) -> Pair {
        let endpoint = format!("http://{server}");
        let environment = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ];
        Pair::at(&environment, &format!("s3://{BUCKET}/{prefix}"))
    }

    pub fn at(environment: &[(&str, &str)], url: &str) -> Pair {
        let source_server = Cluster::start_in(environment, &[]);
        let destination_server = Cluster::start_in(environment, &[]);
        let none = Store::new();
        let source = Database::source(&source_server, "shop", &none).with_url(url);
        let destination = Database::destination(&destination_server, "copy", &none).with_url(url);
        Pair { source_server, destination_server, source, destination }
    }

    /// Changes rows, in every way, and carries them over.
    fn go_on(&self) {
        self.source.insert(100..200);
        self.source.feed(&self.destination);
        self.source
            .run("UPDATE items SET note = 'changed' WHERE id % 3 = 0; DELETE FROM lines WHERE item < 50");
        self.source.feed(&self.destination);
    }
}

/// Enough for several parts, of what no compression makes smaller.
pub const LARGE: &str =
    "INSERT INTO items SELECT 1000 + i, repeat_random(i), i FROM generate_series(1, 9000) AS i";

pub const REPEAT_RANDOM: &str = "CREATE FUNCTION repeat_random(seed int) RETURNS text LANGUAGE sql AS
    $$SELECT string_agg(md5(seed || ' ' || i), '') FROM generate_series(1, 100) AS i$$";

#[track_caller]
fn goes_round(pair: &Pair) {
    pair.go_on();
    pair.source.run(REPEAT_RANDOM);
    pair.source.run(LARGE);
    let export = format!(
        "SELECT table_name, bytes > 28000000 FROM tx_export('{TARGET}', store => '{}', compression => 'none')",
        pair.source.store()
    );
    assert_eq!(pair.source.text(&export), "public.items|t");
    pair.destination.import();
    pair.source.assert_equal(&pair.destination);
    compacts(pair);
}

/// Merges all batches, removes what they were, and begins anew with what is left; and leaves a receipt.
#[track_caller]
fn compacts(pair: &Pair) {
    let Pair { source, destination, .. } = pair;
    let target = source.text("SELECT number FROM table_export.target");
    let compacted = destination.text(&destination.call("tx_compact", ""));
    assert!(
        compacted.lines().all(|row| row.starts_with(&format!("{target}|{target}|public."))),
        "{compacted}"
    );
    let expired = destination.text(&destination.call("tx_expire", ", older_than => '0', keep_batches => 0"));
    assert_eq!(expired.lines().count() + 1, target.parse::<usize>().expect("a number"));
    assert_eq!(
        destination.text(&destination.call("tx_expire", ", older_than => '0', keep_batches => 0")),
        ""
    );
    let mut client = destination.client();
    for statement in [
        "LOAD 'pg_table_export'",
        "ALTER SYSTEM SET pg_table_export.leave_receipts = on",
        "SELECT pg_reload_conf()",
    ] {
        query(&mut client, statement).expect("a setting");
    }
    wait_until("the setting", || destination.text("SHOW pg_table_export.leave_receipts") == "on");
    destination.reset();
    destination.run("TRUNCATE items, lines");
    destination.import();
    source.assert_equal(destination);
    source.insert([70000]);
    source.feed(destination);
    destination.import();
    let status = format!(
        "SELECT applied, pending, last_batch - {target} FROM tx_status('{TARGET}', '{}')",
        source.store()
    );
    assert_eq!(source.text(&status), format!("{}|0|1", target.parse::<u64>().expect("a number") + 1));
}

#[test]
fn what_leaves_the_source_arrives_through_s3() {
    goes_round(&Pair::on_s3(S3S.address(), "round/trip"));
}

#[test]
fn what_leaves_the_source_arrives_through_moto() {
    let server = Server::moto();
    goes_round(&Pair::on_s3(server.address(), ""));
}

#[test]
fn what_leaves_the_source_arrives_through_webdav() {
    let server = Server::apache();
    goes_round(&Pair::at(&[], &format!("http://{}/open/some/folder", server.address())));
}

#[test]
fn a_server_that_replaces_files_is_refused() {
    let server = Server::nanio();
    let pair = Pair::on_s3(server.address(), "prefix");
    pair.source.export_refused().expect(
        "0A000",
        &["s3://batches/prefix", "cannot be used: its server replaces a file that it is told to create"],
    );
    assert_eq!(server.files("/columns").len() + server.files(".json").len(), 0);
    assert_eq!(pair.source.text("SELECT count(*) FROM table_export.batch"), "0");
}

#[test]
fn of_two_exporters_of_one_number_one_wins() {
    let proxy = Proxy::start(S3S.address());
    let slow = Pair::on_s3(proxy.address(), "two");
    let fast = Pair::on_s3(S3S.address(), "two");
    let (arrived, arrives) = channel();
    let (go, wait) = channel();
    let mut hold = Some((arrived, wait));
    proxy.decide(move |line| match hold.take_if(|_| is_manifest(line)) {
        Some((arrived, wait)) => Fault::PassAfter(Box::new(move || {
            arrived.send(()).expect("a test that waits");
            let _: Result<(), _> = wait.recv();
        })),
        None => Fault::Pass,
    });
    let refusal = scope(|scope| {
        let losing = scope.spawn(|| slow.source.export_refused());
        arrives.recv().expect("a manifest to put");
        fast.source.export();
        go.send(()).expect("a proxy that waits");
        losing.join().expect("an end")
    });
    refusal.expect("40001", &["batch 1 of target \"reporting\" has been published by another export"]);
    fast.destination.import();
    fast.source.assert_equal(&fast.destination);
}

#[test]
fn a_manifest_whose_answer_is_lost_is_known_again() {
    let proxy = Proxy::start(S3S.address());
    let pair = Pair::on_s3(proxy.address(), "answer-lost");
    proxy.fail(1, &["PUT", ".json"], || Fault::CutAnswer(0));
    pair.source.feed(&pair.destination);
    let put = proxy.requests().into_iter().filter(|line| is_manifest(line)).count();
    assert_eq!(put, 2, "nothing was lost");
    assert_eq!(pair.source.text("SELECT count(*) FROM tx_batches"), "1");
}

fn is_manifest(line: &str) -> bool {
    line.starts_with("PUT") && line.contains(".json")
}

#[test]
fn what_fails_for_a_moment_is_tried_again() {
    let proxy = Proxy::start(S3S.address());
    let pair = Pair::on_s3(proxy.address(), "again");
    let change = "UPDATE items SET amount = amount + 1";
    pair.source.run(REPEAT_RANDOM);
    pair.source.feed(&pair.destination);
    for status in [500, 503, 429] {
        for words in [&["PUT", "columns"], &["PUT", ".json"], &["GET", "records"], &["GET", "list-type"]] {
            pair.source.run(change);
            proxy.fail(2, words, move || Fault::Answer(status));
            pair.source.feed(&pair.destination);
        }
    }
    for words in [&["PUT", "partNumber"], &["PUT", "columns"]] {
        pair.source.run(&format!("DELETE FROM items WHERE id >= 1000; {LARGE}"));
        proxy.fail(1, words, || Fault::CutRequest(1000));
        pair.source.run(&format!(
            "SELECT * FROM tx_export('{TARGET}', store => '{}', compression => 'none')",
            pair.source.store()
        ));
        // Of 29 MB the first 12 arrive; then as much again; then the rest.
        proxy.fail(2, &["GET", "records"], || Fault::CutAnswer(12_000_000));
        pair.destination.import();
        pair.source.assert_equal(&pair.destination);
    }
}

#[test]
fn what_fails_for_long_is_an_error_that_says_where() {
    let proxy = Proxy::start(S3S.address());
    let pair = Pair::on_s3(proxy.address(), "long");
    proxy.decide(|_| Fault::Answer(503));
    pair.source
        .export_refused()
        .expect("58030", &["could not list \"s3://batches/long/reporting/manifest\"", "503"]);
    proxy.mend();
    pair.source.feed(&pair.destination);

    let absent = Pair::on_s3(free_address(), "long");
    absent.source.export_refused().expect("58030", &["could not list", "Connection refused"]);
    absent.destination.import_refused().expect("58030", &["s3://batches/long", "Connection refused"]);

    let no_bucket = pair.source.with_url("s3://no-such-bucket/long");
    no_bucket.export_refused().expect("58030", &["s3://no-such-bucket/long", "NoSuchBucket"]);
}

/// What a server says that does not show yet what has been put.
const LAGGING: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>batches</Name><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys>
<IsTruncated>false</IsTruncated></ListBucketResult>"#;

#[test]
fn a_listing_that_lags_loses_nothing() {
    let proxy = Proxy::start(S3S.address());
    let pair = Pair::on_s3(proxy.address(), "lags");
    pair.go_on();
    // A batch that the source does not know, and that the listing does not show: its number is found to be
    // taken.
    pair.source.run("UPDATE items SET note = 'published' WHERE id = 1; DELETE FROM items WHERE id = 2");
    pair.source.run(&format!("BEGIN; {}; ROLLBACK", pair.source.export_sql()));
    pair.destination.import();
    proxy.fail(1, &["GET", "list-type"], || Fault::Say(200, LAGGING));
    pair.source.export_refused().expect("40001", &["has been published by another export", "Export again"]);
    pair.source.feed(&pair.destination);
    // An import that is not shown the batch that it has applied, or the next one.
    pair.source.run("UPDATE items SET note = 'later' WHERE id = 3");
    pair.source.export();
    proxy.fail(9, &["GET", "list-type"], || Fault::Say(200, LAGGING));
    pair.destination.import_refused().expect("55000", &["is behind this database"]);
    proxy.mend();
    pair.destination.import();
    pair.source.assert_equal(&pair.destination);
}

#[test]
fn a_clock_that_is_wrong_is_refused_by_its_name() {
    let proxy = Proxy::start(S3S.address());
    let pair = Pair::on_s3(proxy.address(), "clock");
    let skewed =
        "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>";
    proxy.decide(move |_| Fault::Say(403, skewed));
    pair.source.export_refused().expect("42501", &["s3://batches/clock", "403", "RequestTimeTooSkewed"]);
    proxy.mend();
    pair.source.feed(&pair.destination);
}

const DAMAGES: [fn(&mut Vec<u8>); 3] =
    [|bytes| bytes[10] ^= 1, |bytes| bytes.truncate(10), |bytes| bytes.push(0)];

#[test]
fn a_damaged_object_is_refused() {
    let pair = Pair::on_s3(S3S.address(), "damaged");
    pair.source.feed(&pair.destination);
    pair.source.insert(100..200);
    pair.source.export();
    let folder = format!("{BUCKET}/damaged/{TARGET}/data/0000000002");
    for name in ["items/records.zst", "items/ids.zst", "lines/columns"] {
        let files = S3S.files(name);
        let file = files.iter().find(|file| file.to_string_lossy().contains(&folder)).expect("the file");
        let whole = fs::read(file).expect("the file");
        for damage in DAMAGES {
            let mut bytes = whole.clone();
            damage(&mut bytes);
            fs::write(file, bytes).expect("the file");
            pair.destination.import_refused().expect("XX001", &["s3://batches/damaged", name, "is damaged"]);
        }
        fs::remove_file(file).expect("the file");
        pair.destination.import_refused().expect("58P01", &["s3://batches/damaged", name, "does not exist"]);
        fs::write(file, whole).expect("the file");
    }
    pair.destination.import();
    pair.source.assert_equal(&pair.destination);
}

#[test]
fn more_batches_than_a_page_holds_are_all_found() {
    let server = Server::moto();
    let pair = Pair::on_s3(server.address(), "many");
    pair.source.export();
    for number in 2..=2500 {
        server.put(&format!("/{BUCKET}/many/{TARGET}/manifest/{number:010}.json"), "somebody else's");
    }
    pair.source.reset();
    assert!(pair.source.export().starts_with("2501|"));
    pair.destination.import();
    pair.source.assert_equal(&pair.destination);
}

#[test]
fn what_an_export_leaves_behind_the_next_one_removes() {
    let apache = Server::apache();
    let on_webdav = Pair::at(&[], &format!("http://{}/open", apache.address()));
    let s3s = Server::s3s();
    for (server, pair) in [(&apache, &on_webdav), (&s3s, &Pair::on_s3(s3s.address(), ""))] {
        pair.source.feed(&pair.destination);
        pair.source.run("UPDATE items SET note = 'again'; UPDATE lines SET at = now()");
        let cut_off = format!(
            "SET statement_timeout = '2s'; SET pg_table_export.wait_at = 'ExportPartWritten'; {}",
            pair.source.export_sql()
        );
        pair.source.refused(&cut_off).expect("57014", &[]);
        assert_eq!(server.files("/columns").len(), 3, "a table of the export that was cut off");
        pair.source.feed(&pair.destination);
        assert_eq!(server.files("/columns").len(), 4);
    }
}

/// Secrets, which a server must not tell.
fn assert_no_secrets(texts: &[&str]) {
    for text in texts {
        assert!(!text.contains(SECRET_KEY) && !text.contains("wrong-secret"), "{text}");
    }
}

#[test]
fn wrong_credentials_are_refused_and_not_repeated() {
    let endpoint = format!("http://{}", S3S.address());
    let pair = Pair::at(
        &[
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", "wrong-secret"),
            ("AWS_SESSION_TOKEN", "wrong-secret-token"),
        ],
        &format!("s3://{BUCKET}/wrong"),
    );
    let refusals = [pair.source.export_refused(), pair.destination.import_refused()];
    for refusal in &refusals {
        refusal.expect(
            "42501",
            &["s3://batches/wrong", "the server answered 403 Forbidden: SignatureDoesNotMatch"],
        );
        assert_no_secrets(&[&refusal.to_string()]);
    }
    pair.source.with_url("s3://user:wrong@batches/x").export_refused().expect("22023", &["no password"]);
    let unprivileged = "CREATE ROLE nobody; GRANT EXECUTE ON FUNCTION tx_export TO nobody; SET ROLE nobody";
    let export = format!("SELECT tx_export('x', store => 's3://key:{SECRET_KEY}@bucket')");
    let refusal =
        pair.source.refused(&format!("SET log_min_error_statement = fatal; {unprivileged}; {export}"));
    refusal.expect("22023", &["no password"]);
    assert_no_secrets(&[&refusal.to_string(), &pair.source_server.log(), &pair.destination_server.log()]);
}

#[test]
fn credentials_come_from_files_of_the_user_as_well() {
    let folder = Store::new();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (config, credentials) = (path("config"), path("credentials"));
    let keys = |id: &str, secret: &str| format!("aws_access_key_id = {id}\naws_secret_access_key={secret}\n");
    fs::write(
        &config,
        format!("[profile batches]\nregion = eu-west-1\nendpoint_url = http://{}\n", S3S.address()),
    )
    .expect("a file");
    let both = format!(
        "[default]\n{}\n# a comment\n[batches]\n{}",
        keys("other", "other"),
        keys(KEY_ID, SECRET_KEY)
    );
    fs::write(&credentials, both).expect("a file");
    let environment = [
        ("AWS_CONFIG_FILE", config.as_str()),
        ("AWS_SHARED_CREDENTIALS_FILE", credentials.as_str()),
        ("AWS_PROFILE", "batches"),
    ];
    let pair = Pair::at(&environment, &format!("s3://{BUCKET}/files"));
    pair.go_on();
    fs::write(&credentials, keys(KEY_ID, SECRET_KEY)).expect("a file");
    pair.source
        .export_refused()
        .expect("F0000", &["there are no keys for the profile \"batches\" that AWS_PROFILE names"]);
    fs::write(&credentials, format!("[batches\n{}", keys(KEY_ID, SECRET_KEY))).expect("a file");
    let refusal = pair.source.export_refused();
    refusal.expect("58030", &[&credentials, "it is not valid in line"]);
    assert_no_secrets(&[&refusal.to_string()]);
}

#[test]
fn a_webdav_server_may_want_a_password() {
    let server = Server::apache();
    let (folder, url) = (Store::new(), format!("http://{}/closed", server.address()));
    let netrc = folder.path().join("netrc");
    let entry = |secret: &str| {
        format!(
            "machine elsewhere login x password y\nmachine 127.0.0.1\n  login {KEY_ID}\n  password {secret}\n"
        )
    };
    fs::write(&netrc, entry(SECRET_KEY)).expect("a file");
    let pair = Pair::at(&[("NETRC", &netrc.to_string_lossy())], &url);
    pair.go_on();
    let taken = pair.source.text("SELECT max(number) FROM table_export.batch");
    assert!(server.files(".json").len().to_string() == taken && server.files("probe").is_empty());

    fs::write(&netrc, entry("wrong-secret")).expect("a file");
    for refusal in [pair.source.export_refused(), pair.destination.import_refused()] {
        refusal.expect("42501", &[&url, "401 Unauthorized"]);
        assert_no_secrets(&[&refusal.to_string()]);
    }
    assert_no_secrets(&[&pair.source_server.log(), &pair.destination_server.log()]);
}

#[test]
fn a_call_makes_few_requests() {
    let proxy = Proxy::start(S3S.address());
    let pair = Pair::on_s3(proxy.address(), "requests");
    let count = |call: &dyn Fn()| {
        call();
        proxy.requests().len()
    };
    let seen = [
        count(&|| drop(pair.source.export())),
        count(&|| drop(pair.destination.import())),
        count(&|| drop(pair.source.export())),
        count(&|| drop(pair.destination.import())),
    ];
    // Two tables in one batch; then nothing. docs/operations.md says how these numbers come about.
    assert_eq!(seen, [12, 8, 1, 3]);
}
