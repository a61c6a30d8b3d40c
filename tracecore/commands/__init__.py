"""What does each command of ``tracecore`` do?"""
