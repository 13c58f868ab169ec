"""An RTSP server for tests, run by the system's Python, which has GStreamer's bindings.

    /usr/bin/python3 rtsp_server.py PORT [--private]

Prints "ready", then serves a moving picture at rtsp://127.0.0.1:PORT/stream, 160 x 120 at 25 frames
per second in H.264; --private serves it to user "robot" with password "s3cret" only. Commands on
stdin: "size W H" changes the picture in the running stream, "stall" stops it, "quit" ends. It ends
by itself after a minute, and with its parent.
"""

import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! videoscale ! "
    "capsfilter name=size caps=video/x-raw,width=160,height=120,framerate=25/1 ! "
    "valve name=valve ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 threads=1 ! "
    "rtph264pay name=pay0 pt=96 config-interval=-1 )"
)


def main():
    port = sys.argv[1]
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=port)
    factory = GstRtspServer.RTSPMediaFactory(launch=PIPELINE, shared=True)
    media = []
    factory.connect("media-configure", lambda factory, made: media.append(made))
    server.get_mount_points().add_factory("/stream", factory)

    if "--private" in sys.argv:
        _ask_for_password(server, factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")

    loop = GLib.MainLoop()
    GLib.timeout_add_seconds(60, loop.quit)

    def obey(words):
        elements = [made.get_element() for made in media]
        if words[0] == "size":
            caps = Gst.Caps.from_string(
                f"video/x-raw,width={words[1]},height={words[2]},framerate=25/1"
            )
            for element in elements:
                element.get_by_name("size").set_property("caps", caps)
        elif words[0] == "stall":
            for element in elements:
                element.get_by_name("valve").set_property("drop", True)
        else:
            loop.quit()

    def listen():
        for line in sys.stdin:
            GLib.idle_add(obey, line.split())
        GLib.idle_add(loop.quit)

    threading.Thread(target=listen, daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    loop.run()


def _ask_for_password(server, factory):
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role("robot")
    permissions.add_permission_for_role("robot", "media.factory.access", True)
    permissions.add_permission_for_role("robot", "media.factory.construct", True)
    factory.set_permissions(permissions)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "robot")
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("robot", "s3cret"), token)
    server.set_auth(auth)


if __name__ == "__main__":
    main()
