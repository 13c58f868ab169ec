"""A robot's own loop: newest frame in, newest result out, never a wait without end.

python examples/robot_loop.py demo/bundle 'rtsp://10.0.0.7/stream'
python examples/robot_loop.py demo/bundle 'synthetic://street?frames=300&rate=30'
"""

import sys
import time

from dff_edge.runtime import LiveSource, Pipeline, open_source

TOO_OLD_S = 0.5  # older results are not acted upon


def main(bundle: str, camera: str) -> None:
    with Pipeline.open(bundle, depth=1) as pipeline, open_source(camera) as source:
        assert isinstance(source, LiveSource), "a recording is played live with ?rate=30"
        last_s = time.monotonic()
        while True:
            frame = source.read(timeout_s=0.1)
            if frame is not None:
                pipeline.submit(frame)
                result = pipeline.poll(block=True)
                if result is not None and time.monotonic() - result.frame.stamp_s < TOO_OLD_S:
                    last_s = result.frame.stamp_s
                    road = (result.labels == 4).mean()
                    print(f"frame {frame.index}: {road:.0%} road, {1e3 * result.age_s:.0f} ms old")
            if source.state == "closed":
                break
            if time.monotonic() - last_s > TOO_OLD_S:
                print(f"stop the wheels: nothing seen for {TOO_OLD_S} s, camera {source.state}")
                time.sleep(0.1)
        print(f"the source has ended: {source.counts}")


if __name__ == "__main__":
    main(*sys.argv[1:])
