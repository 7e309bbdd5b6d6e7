// What a Java program needs to reach the relay, with nothing but the JDK: a name, a trust store, and
// the classes that Microsoft's library and its users build on.
//
//   java -Djdk.net.hosts.file=hosts -Djavax.net.ssl.trustStore=trust.p12
//        -Djavax.net.ssl.trustStorePassword=... Peers.java listen | connect | request
//
// Tokens come in the environment: LISTEN_TOKEN, SEND_TOKEN. Prints one line for each thing done.

import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Peers {
    static final String HOST = System.getenv("SB_HC_NAMESPACE");
    static final String PATH = System.getenv("SB_HC_PATH");
    static final HttpClient CLIENT =
        HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    /** Collects whole messages; a Close is told as "close CODE REASON". */
    static class Messages implements WebSocket.Listener {
        final BlockingQueue<String> arrived = new LinkedBlockingQueue<>();
        private final StringBuilder text = new StringBuilder();
        private int bytes;

        @Override
        public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
            text.append(data);
            if (last) {
                arrived.add(text.toString());
                text.setLength(0);
            }
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onBinary(WebSocket socket, ByteBuffer data, boolean last) {
            bytes += data.remaining();
            if (last) {
                arrived.add("binary " + bytes);
                bytes = 0;
            }
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
            arrived.add("close " + code + " " + reason);
            return new CompletableFuture<>(); // Never complete: we answer it ourselves, when done.
        }

        @Override
        public void onError(WebSocket socket, Throwable error) {
            arrived.add("error " + error);
        }

        String next() throws InterruptedException {
            String message = arrived.poll(20, TimeUnit.SECONDS);
            return message == null ? "nothing came" : message;
        }
    }

    static WebSocket open(String address, String token, Messages messages) {
        WebSocket.Builder builder = CLIENT.newWebSocketBuilder();
        if (token != null) {
            builder.header("ServiceBusAuthorization", token);
        }
        return builder.buildAsync(URI.create(address), messages).join();
    }

    /** One field of a command's JSON; enough for a test, and the JDK has no parser. */
    static String field(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\"\\s*:\\s*\"([^\"]*)\"").matcher(json);
        if (!found.find()) {
            throw new IllegalArgumentException(name + " is not in " + json);
        }
        return found.group(1);
    }

    static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    /** Accepts one sender, sends its message back, and closes. */
    static void listen() throws Exception {
        Messages commands = new Messages();
        WebSocket control = open(
            "wss://" + HOST + "/$hc/" + PATH + "?sb-hc-action=listen&sb-hc-id=" + UUID.randomUUID(),
            System.getenv("LISTEN_TOKEN"), commands);
        say("listening");
        String accept = commands.next();
        URI address = new URI(field(accept, "address"));
        say("accept " + UUID.fromString(field(accept, "id").substring(0, 36)));
        Messages messages = new Messages();
        WebSocket near = open(address.toString(), null, messages);
        String came = messages.next();
        near.sendText("you sent " + came, true).join();
        near.sendClose(1000, "").join();
        say(messages.next());
        control.sendClose(1000, "").join();
        say(commands.next());
    }

    /** Sends 100 000 bytes in two fragments; prints what comes back, and the end. */
    static void connect() throws Exception {
        Messages messages = new Messages();
        WebSocket socket = open(
            "wss://" + HOST + "/$hc/" + PATH + "?sb-hc-action=connect&sb-hc-id=" + UUID.randomUUID(),
            System.getenv("SEND_TOKEN"), messages);
        say("open");
        socket.sendBinary(ByteBuffer.allocate(60_000), false).join();
        socket.sendBinary(ByteBuffer.allocate(40_000), true).join();
        say(messages.next());
        say(messages.next());
        socket.sendClose(1000, "").join();
    }

    /** A POST of a body that is sent chunked, and a GET, both with HttpURLConnection. */
    static void request() throws Exception {
        URI uri = URI.create("https://" + HOST + "/" + PATH + "/items?color=red");
        for (String method : new String[] {"POST", "GET"}) {
            HttpURLConnection http = (HttpURLConnection) uri.toURL().openConnection();
            http.setRequestMethod(method);
            http.setRequestProperty("ServiceBusAuthorization", System.getenv("SEND_TOKEN"));
            if (method.equals("POST")) {
                http.setDoOutput(true);
                http.setChunkedStreamingMode(8_192);
                try (OutputStream out = http.getOutputStream()) {
                    out.write(new byte[100_000]);
                }
            }
            int status = http.getResponseCode();
            try (InputStream in = http.getInputStream()) {
                say(method + " " + status + " " + http.getResponseMessage()
                    + " " + in.readAllBytes().length + " " + http.getHeaderField("Via"));
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "listen" -> listen();
            case "connect" -> connect();
            case "request" -> request();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
        System.exit(0);
    }
}
