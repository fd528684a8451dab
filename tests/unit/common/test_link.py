"""A child and its supervisor."""

import os
import socket

from regulars.supervisor import READY, Link


def test_a_child_tells_that_it_is_ready() -> None:
    parent, child = socket.socketpair()
    with parent, child:
        link = Link(os.dup(child.fileno()))
        link.ready()
        assert parent.recv(16) == READY
        link._socket.close()


def test_a_child_whose_supervisor_has_died_goes_on_to_answer_those_who_have_come_in() -> None:
    parent, child = socket.socketpair()
    with child:
        parent.close()
        link = Link(os.dup(child.fileno()))
        link.ready()
        link._socket.close()
