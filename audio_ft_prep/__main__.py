"The command, and `python -m audio_ft_prep`: a stop ends it in a sentence from the first moment, before the third of a second in which it is imported."
import os, signal
from contextlib import suppress

SAID = {signal.SIGINT: "stopped", signal.SIGTERM: "told to end (SIGTERM)", signal.SIGHUP: "told to end (SIGHUP)"}


def _stop(number, frame=None):
    "End at once: nothing has begun that is to be tidied up."
    with suppress(OSError): os.write(2, f"audio-ft-prep: {SAID[number]}; the same command goes on from here\n".encode())
    os._exit(128 + number)


def _check_memory(least=320 << 20):
    "End in a sentence where this process may not even have what its libraries are loaded into."
    import resource
    allowed = min(resource.getrlimit(limit)[0] % (1 << 64) for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA))  # no limit is -1
    if allowed >= least: return
    with suppress(OSError): os.write(2, f"audio-ft-prep: this process may have {allowed >> 20} MB of memory (ulimit -v, ulimit -d), and needs {least >> 20} MB to begin: allow more\n".encode())
    os._exit(1)


def main():
    "Run the command."
    _check_memory()
    before = {s: signal.signal(s, _stop) for s in SAID if signal.getsignal(s) != signal.SIG_IGN}
    from audio_ft_prep.process import open_standard_streams
    open_standard_streams()
    from audio_ft_prep.cli import main
    try:
        if signal.SIGINT in before: signal.signal(signal.SIGINT, before[signal.SIGINT])
        main()  # which sees to SIGTERM and SIGHUP itself
    except KeyboardInterrupt: _stop(signal.SIGINT)


if __name__ == "__main__": main()
