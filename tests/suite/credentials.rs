//! Whose credentials a worker uses: the SDK's chain, with a server that stands for S3, for STS (IRSA) and for the instance's metadata.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;

const STS: &str = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
    <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>FROMSTS</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
    <SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
    </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";

const IMDS: &str = "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"FROMIMDS\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\
    \"LastUpdated\":\"2020-01-01T00:00:00Z\",\"Expiration\":\"2099-01-01T00:00:00Z\"}";

/// Answers until the test's end; gives the access key of every request to the bucket.
fn stub() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (keys, received) = mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let keys = keys.clone();
            std::thread::spawn(move || serve(connection, &keys));
        }
    });
    (address, received)
}

fn serve(mut connection: TcpStream, keys: &mpsc::Sender<String>) -> Option<()> {
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    loop {
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            (reader.read_line(&mut line).ok()? > 0).then_some(())?;
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = n.trim().parse().ok()?;
            }
            head.push(line);
        }
        std::io::copy(&mut std::io::Read::take(&mut reader, length), &mut std::io::sink()).ok()?;
        let path = head.first()?.split(' ').nth(1)?;
        let (status, body) = match path {
            "/latest/api/token" => ("200 OK", "token"),
            "/latest/meta-data/iam/security-credentials/" => ("200 OK", "role"),
            "/latest/meta-data/iam/security-credentials/role" => ("200 OK", IMDS),
            "/" => ("200 OK", STS),
            _ => {
                let signed = head.iter().find_map(|l| Some(l.split_once("Credential=")?.1.split_once('/')?.0));
                keys.send(signed.unwrap_or("nobody").to_owned()).ok()?;
                ("403 Forbidden", "")
            }
        };
        let ttl = "x-aws-ec2-metadata-token-ttl-seconds: 60";
        write!(connection, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{ttl}\r\n\r\n{body}", body.len()).ok()?;
    }
}

#[test]
fn credentials_come_from_the_environment_a_profile_a_service_account_or_the_instance() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let profile = file("credentials", "[tv]\naws_access_key_id = FROMFILE\naws_secret_access_key = hush\n");
    let token = file("token", "a service account's token");
    let nothing = file("nothing", "");
    let (address, keys) = stub();
    let server = format!("http://{address}");
    let off = ("AWS_EC2_METADATA_DISABLED", "true");
    let cases: [(&str, Vec<(&str, &str)>); 4] = [
        ("FROMENV", vec![("AWS_ACCESS_KEY_ID", "FROMENV"), ("AWS_SECRET_ACCESS_KEY", "hush"), off]),
        ("FROMFILE", vec![("AWS_SHARED_CREDENTIALS_FILE", &profile), ("AWS_PROFILE", "tv"), off]),
        (
            "FROMSTS",
            vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
                ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/weir"),
                ("AWS_ENDPOINT_URL_STS", &server),
                off,
            ],
        ),
        ("FROMIMDS", vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server)]),
    ];
    for (expected, variables) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        let done = command
            .args(["run", "--open", "--ladder", "none", "--srt", ""])
            // The harness, which has them too, is not there without GStreamer.
            .args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--store", "s3://tv", "--s3-endpoint", &server, "--state-dir"])
            .arg(folder.path())
            .envs([("AWS_REGION", "eu-central-1"), ("AWS_CONFIG_FILE", &nothing), ("AWS_SHARED_CREDENTIALS_FILE", &nothing)])
            .envs(variables)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(4), "{said}");
        assert_eq!(keys.try_iter().collect::<Vec<_>>(), [expected], "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
}
