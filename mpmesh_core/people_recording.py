"""people_recording: the outputs of the line as messages in an MCAP file, without ROS.

In   results and their pictures' headers, frame by frame
Out  the topics that a live node publishes, in a McapFile
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mpmesh_core.errors import UsageError
from mpmesh_core.mcap_output import LATCHED_QOS, McapFile
from mpmesh_core.messages import OUTPUTS, MessageBuilder, MessageFrame, MessageOptions, Output
from mpmesh_core.messages.rosbags_types import RosbagsTypes

HUMANS = Output("humans", "/humans/bodies/...", "hri_msgs/msg/...")  # several topics a person
OUTPUT_NAMES = (*(output.name for output in OUTPUTS), HUMANS.name)
NODE_NAME = "mpmesh"  # what `~/` stands for
_NODE = re.compile(r"[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)


def chosen_outputs(names: Sequence[str] | None) -> list[Output]:
    """Outputs by name, all of them for None.

    Raises:
        UsageError: a name that is none.
    """
    unknown = [name for name in names or () if name not in OUTPUT_NAMES]
    if unknown:
        raise UsageError(f"output {unknown[0]!r} is none of {', '.join(OUTPUT_NAMES)}")
    return [output for output in (*OUTPUTS, HUMANS) if names is None or output.name in names]


def node_prefix(node: str) -> str:
    """What `~/` stands for.

    Raises:
        UsageError: a name that ROS doesn't take.
    """
    name = node.strip("/")
    if not _NODE.fullmatch(name):
        raise UsageError(
            f"node {node!r} is no ROS name: letters, digits and _, no digit first, / between parts"
        )
    return f"/{name}/"


def output_topic(output: Output, node: str) -> str:
    """Full name of an output's topic."""
    return output.topic.replace("~/", node_prefix(node))


def is_own_topic(topic: str, outputs: Sequence[Output], node: str) -> bool:
    """Whether a topic is only the outputs' own; `/tf` is everybody's."""
    if HUMANS in outputs and topic.startswith(HUMANS.topic.removesuffix("...")):
        return True
    return topic != "/tf" and topic in [output_topic(output, node) for output in outputs]


class PeopleRecorder:
    """Writes the outputs of one camera.

    Args:
        file: where to.
        outputs: what.
        options: what to put into the messages.
        node: what `~/` stands for in topics.
    """

    def __init__(
        self,
        file: McapFile,
        outputs: Sequence[Output],
        options: MessageOptions | None = None,
        node: str = NODE_NAME,
    ) -> None:
        self._file = file
        self._types = RosbagsTypes()
        self._builder = MessageBuilder(self._types, options)
        self._pending = [output for output in outputs if output is not HUMANS]
        self._humans = HUMANS in outputs
        self._channels = {
            output.name: file.add_topic(
                output_topic(output, node),
                output.type,
                self._types.definition(output.type),
                qos=LATCHED_QOS if output.latched else "",
            )
            for output in self._pending
        }

    def write(self, frame: MessageFrame, time_ns: int) -> None:
        """Write one frame.

        Args:
            frame: its people.
            time_ns: when its picture was recorded [ns].
        """
        for output in list(self._pending):
            message = self._builder.build(output.name, frame)
            if message is None:
                continue
            data = message if isinstance(message, bytes) else self._types.serialize(message)
            self._file.write(self._channels[output.name], data, time_ns)
            if output.latched:
                self._pending.remove(output)
        for part in self._builder.humans(frame) if self._humans else ():
            channel = self._file.add_topic(part.topic, part.type, self._types.definition(part.type))
            self._file.write(channel, self._types.serialize(part.message), time_ns)
