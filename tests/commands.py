"""What a command does when it is run inside this process."""


def outcome(main, arguments, capfd):
    """Exit code, standard output and standard error of a command line."""
    try:
        main([str(x) for x in arguments])
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capfd.readouterr()
    return code, out, err
