"""Sends one mail by the company's mail server, with STARTTLS and the server's own certificate."""

import os
import smtplib
import ssl
from email.message import EmailMessage

message = EmailMessage()
message["From"] = "shop@example.com"
message["To"] = "warehouse@example.com"
message["Subject"] = "Order 1"
message.set_content("One pallet of bolts, please.\n")

# The authority that signed the server's certificate. The name in it is mail.corp.local.
trusted = ssl.create_default_context(cafile=os.environ["CORP_CA"])
port = int(os.environ.get("SMTP_PORT", "587"))

with smtplib.SMTP("mail.corp.local", port, timeout=20) as server:
    server.starttls(context=trusted)
    server.send_message(message)
    print("sent")
