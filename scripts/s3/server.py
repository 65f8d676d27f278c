"""An S3 server in memory, moto's, on a free port, with an empty bucket and one user, whose signatures it checks.

Prints where it listens and the user's keys as a shell's assignments, then `ready`.
"""

import logging
import os
import signal
import threading

# What is set up below is asked without credentials: a bucket, a user, what it may do, its key. All that follows is checked.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "4"
# What is asked here is signed with nobody's key.
os.environ.update(AWS_ACCESS_KEY_ID="setup", AWS_SECRET_ACCESS_KEY="setup", AWS_DEFAULT_REGION="us-east-1")

import boto3  # noqa: E402
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

BUCKET = "evserve-test"
MAY_DO_ALL = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ, start_response):
        # moto closes an object's file under the hands of whoever reads it while another one puts it anew.
        with turn:
            return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
    iam = boto3.client("iam", endpoint_url=endpoint)
    iam.create_user(UserName="evserve")
    iam.put_user_policy(UserName="evserve", PolicyName="all", PolicyDocument=MAY_DO_ALL)
    key = iam.create_access_key(UserName="evserve")["AccessKey"]
    print(f"EVSERVE_TEST_S3='{endpoint}'")
    print(f"EVSERVE_TEST_S3_ACCESS_KEY_ID='{key['AccessKeyId']}'")
    print(f"EVSERVE_TEST_S3_SECRET_ACCESS_KEY='{key['SecretAccessKey']}'")
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
